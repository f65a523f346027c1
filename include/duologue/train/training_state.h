// TrainingState: the flat buffers of a training run; with several owners, of the optimizer's state only this rank's
// slice.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "duologue/backend/backend.h"
#include "duologue/comm/communicator.h"
#include "duologue/model/parameters.h"
#include "duologue/train/flat_layout.h"

namespace duologue {

/// What the optimizer keeps of every parameter, and a checkpoint too. All f32.
enum class StatePart : std::uint8_t {
    kValues,  ///< the master parameters
    kFirst,   ///< Adam's first moment
    kSecond,  ///< Adam's second moment
};
inline constexpr std::array kStateParts{StatePart::kValues, StatePart::kFirst, StatePart::kSecond};

/// One allocation for each buffer; all share the offsets of the parameter table. Where activations are f32, the weights
/// are the master parameters.
class TrainingState {
   public:
    /// Everything zero. `activation` is the type of weights().
    TrainingState(Backend& backend, const ParameterTable& table, DataType activation, const FlatLayout& layout);

    [[nodiscard]] const FlatLayout& layout() const { return layout_; }
    [[nodiscard]] Tensor weights() const { return flat(weights_); }      ///< act [elements()]
    [[nodiscard]] Tensor gradients() const { return flat(gradients_); }  ///< f32 [elements()]

    /// Ranges of the padded buffers.
    [[nodiscard]] Tensor weights(const FlatRange& range) const { return cut(weights_, range); }
    [[nodiscard]] Tensor gradients(const FlatRange& range) const { return cut(gradients_, range); }
    /// f32: this rank's `piece` of `part`.
    [[nodiscard]] Tensor part(StatePart part, const Piece& piece) const;
    [[nodiscard]] bool weights_are_values() const { return weights_.type == DataType::kF32; }

    /// f32 [elements()]: `part` of all owners together. With several owners it stands in the memory of gradients(), and
    /// every rank calls this.
    [[nodiscard]] Tensor whole(StatePart part, Backend& backend, Communicator& communicator) const;
    /// Takes `part` from gradients(), where it stands whole on every rank; from values the weights are made too.
    void take(StatePart part, Backend& backend) const;

   private:
    [[nodiscard]] Tensor allocate(Backend& backend, DataType type, std::int64_t elements);
    [[nodiscard]] Tensor flat(const Tensor& padded) const { return padded.column_range(0, layout_.elements()); }
    [[nodiscard]] static Tensor cut(const Tensor& padded, const FlatRange& range) {
        return padded.column_range(range.begin, range.length);
    }

    FlatLayout layout_;
    std::vector<DeviceBuffer> buffers_;
    Tensor weights_;    // act [padded_elements()]
    Tensor gradients_;  // f32 [padded_elements()]
    Tensor values_;     // f32 [slice_elements()]; absent where the weights are the values
    Tensor first_;      // f32 [slice_elements()]
    Tensor second_;     // f32 [slice_elements()]
};

/// The host's copy of a contiguous f32 tensor.
[[nodiscard]] std::vector<float> download_values(Backend& backend, const Tensor& x);

}  // namespace duologue
