// Allocation, and the way between whole buffers and slices.
#include "duologue/train/training_state.h"

#include "duologue/core/error.h"

namespace duologue {

TrainingState::TrainingState(Backend& backend, const ParameterTable& table, DataType activation,
                             const FlatLayout& layout)
    : layout_(layout) {
    require(layout.elements() == table.elements(), ErrorCode::kInternal, "a layout of {} elements for a table of {}",
            layout.elements(), table.elements());
    weights_ = allocate(backend, activation, layout.padded_elements());
    gradients_ = allocate(backend, DataType::kF32, layout.padded_elements());
    if (!weights_are_values()) values_ = allocate(backend, DataType::kF32, layout.slice_elements());
    first_ = allocate(backend, DataType::kF32, layout.slice_elements());
    second_ = allocate(backend, DataType::kF32, layout.slice_elements());
}

Tensor TrainingState::allocate(Backend& backend, DataType type, std::int64_t elements) {
    buffers_.push_back(backend.allocate(elements * size_of(type)));
    return make_vector(buffers_.back().data(), type, elements);
}

Tensor TrainingState::part(StatePart part, const Piece& piece) const {
    if (part == StatePart::kValues && weights_are_values()) return weights(piece.range);
    const Tensor& slice = part == StatePart::kValues ? values_ : part == StatePart::kFirst ? first_ : second_;
    return slice.column_range(piece.offset, piece.range.length);
}

Tensor TrainingState::whole(StatePart part, Backend& backend, Communicator& communicator) const {
    if (part == StatePart::kValues && weights_are_values()) return weights();
    if (!layout_.sharded()) return this->part(part, layout_.pieces().front()).column_range(0, layout_.elements());
    for (const Piece& piece : layout_.pieces()) backend.copy(gradients(piece.range), this->part(part, piece));
    for (std::size_t i = 0; i < layout_.buckets().size(); ++i) {
        communicator.all_gather(gradients(layout_.buckets()[i]), gradients(layout_.pieces()[i].range),
                                "the gathering of the optimizer's state");
    }
    communicator.join();
    return gradients();
}

void TrainingState::take(StatePart part, Backend& backend) const {
    if (part == StatePart::kValues) backend.cast(weights(), gradients());
    if (part == StatePart::kValues && weights_are_values()) return;
    for (const Piece& piece : layout_.pieces()) backend.copy(this->part(part, piece), gradients(piece.range));
}

std::vector<float> download_values(Backend& backend, const Tensor& x) {
    std::vector<float> values(static_cast<std::size_t>(x.elements()));
    backend.download(values.data(), x);
    return values;
}

}  // namespace duologue
