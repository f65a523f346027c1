// Drives a Transformer over any back end, as the trainer does, but from host vectors.
#include "support/model_run.h"

#include <algorithm>

#include "duologue/core/random.h"

namespace duologue {
namespace {

PackedTokens packed(const std::vector<std::vector<std::int32_t>>& sequences) {
    PackedTokens result;
    for (const auto& sequence : sequences) {
        for (std::size_t i = 0; i < sequence.size(); ++i) {
            result.tokens.push_back(sequence[i]);
            result.positions.push_back(static_cast<std::int32_t>(i));
        }
        result.offsets.push_back(static_cast<std::int32_t>(result.tokens.size()));
    }
    return result;
}

std::int64_t longest(const PackedTokens& tokens) {
    std::int64_t most = 0;
    for (std::size_t i = 1; i < tokens.offsets.size(); ++i) {
        most = std::max<std::int64_t>(most, tokens.offsets[i] - tokens.offsets[i - 1]);
    }
    return most;
}

}  // namespace

Batch pack_batch(const std::vector<std::vector<std::int32_t>>& sources,
                 const std::vector<std::vector<std::int32_t>>& targets,
                 const std::vector<std::vector<std::int32_t>>& labels) {
    Batch batch{.source = packed(sources), .target = packed(targets), .labels = packed(labels).tokens};
    batch.label_count = std::ranges::count_if(batch.labels, [](std::int32_t label) { return label != -1; });
    return batch;
}

BatchCapacity capacity_of(const Batch& batch) {
    return {.source_rows = batch.source.rows(),
            .target_rows = batch.target.rows(),
            .sequences = batch.target.sequences(),
            .max_source_length = longest(batch.source),
            .max_target_length = longest(batch.target)};
}

Batch random_batch(const RandomBatch& shape) {
    RandomStream stream(shape.seed);
    const auto sequence = [&] {
        std::vector<std::int32_t> tokens(1 + stream.below(static_cast<std::uint64_t>(shape.max_length)));
        for (std::int32_t& token : tokens) {
            token = static_cast<std::int32_t>(stream.below(static_cast<std::uint64_t>(shape.vocabulary)));
        }
        return tokens;
    };
    std::vector<std::vector<std::int32_t>> sources;
    std::vector<std::vector<std::int32_t>> targets;
    std::vector<std::vector<std::int32_t>> labels;
    for (std::int64_t i = 0; i < shape.sequences; ++i) {
        if (shape.kind == ModelKind::kEncoderDecoder) sources.push_back(sequence());
        targets.push_back(sequence());
        labels.push_back(sequence());
        labels.back().resize(targets.back().size(), -1);
    }
    return pack_batch(sources, targets, labels);
}

std::int64_t plan_bytes(const Backend& backend, Transformer model, const BatchCapacity& capacity) {
    const std::unique_ptr<PlanningBackend> planning = make_planning_backend(backend);
    model.prepare(*planning);
    Arena arena;
    const DeviceBatch batch = allocate_batch(arena, capacity, backend.packing());
    const Tensor losses = arena.allocate_vector(DataType::kF32, batch.labels.columns);
    const std::int64_t elements = model.parameters().elements();
    Arena flat;
    const Tensor weights = flat.allocate_vector(model.activation_type(), elements);
    const Tensor gradients = flat.allocate_vector(DataType::kF32, elements);
    model.train_step(*planning, arena, batch, weights, gradients, losses, 0.1F, [](std::int64_t, std::int64_t) {});
    model.evaluate(*planning, arena, batch, weights, losses, 0.1F);
    return arena.peak_bytes();
}

ModelRun::ModelRun(Backend& backend, const ModelConfig& config, std::int64_t vocabulary_size, Precision precision,
                   const BatchCapacity& capacity)
    : backend_(backend),
      capacity_(capacity),
      model_(config, vocabulary_size, precision, capacity.max_source_length, capacity.max_target_length) {
    const std::int64_t planned = plan_bytes(
        backend,
        Transformer(config, vocabulary_size, precision, capacity.max_source_length, capacity.max_target_length),
        capacity);
    model_.prepare(backend);
    arena_memory_ = backend.allocate(planned);
    arena_ = Arena(arena_memory_.data(), planned);
    values_ = flat(values_memory_, DataType::kF32);
    weights_ = flat(weights_memory_, model_.activation_type());
    gradients_ = flat(gradients_memory_, DataType::kF32);
    first_ = flat(first_memory_, DataType::kF32);
    second_ = flat(second_memory_, DataType::kF32);
    scalar_memory_ = backend.allocate(2 * Arena::kAlignment);
}

void ModelRun::poison_arena() {
    const std::vector<std::uint8_t> ones(static_cast<std::size_t>(arena_memory_.bytes()), 0xff);
    backend_.upload(make_vector(arena_memory_.data(), DataType::kU8, arena_memory_.bytes()), ones.data());
}

Tensor ModelRun::flat(DeviceBuffer& memory, DataType type) {
    const std::int64_t elements = model_.parameters().elements();
    memory = backend_.allocate(elements * size_of(type));
    return make_vector(memory.data(), type, elements);
}

std::vector<float> ModelRun::floats(const Tensor& tensor) const {
    std::vector<float> values(static_cast<std::size_t>(tensor.elements()));
    if (tensor.type == DataType::kF32) {
        backend_.download(values.data(), tensor);
        return values;
    }
    std::vector<Bfloat16> rounded(values.size());
    backend_.download(rounded.data(), tensor);
    std::ranges::transform(rounded, values.begin(), [](Bfloat16 value) { return static_cast<float>(value); });
    return values;
}

void ModelRun::set_parameters(const std::vector<float>& flat_values) {
    backend_.upload(values_, flat_values.data());
    backend_.cast(weights_, values_);
}
std::vector<float> ModelRun::parameters() const { return floats(values_); }
std::vector<float> ModelRun::gradients() const { return floats(gradients_); }

std::vector<float> ModelRun::train(const Batch& batch, float smoothing, std::uint64_t key) {
    poison_arena();
    const Arena::Scope scope(arena_);
    const DeviceBatch device = upload_batch(backend_, arena_, batch, capacity_);
    const Tensor losses = arena_.allocate_vector(DataType::kF32, device.labels.columns);
    backend_.set_random_key(key);
    finished_.clear();
    gradients_when_finished_.clear();
    model_.train_step(backend_, arena_, device, weights_, gradients_, losses, smoothing,
                      [&](std::int64_t begin, std::int64_t end) {
                          finished_.emplace_back(begin, end);
                          const std::vector<float> now = floats(gradients_.column_range(begin, end - begin));
                          gradients_when_finished_.insert(gradients_when_finished_.end(), now.begin(), now.end());
                      });
    return floats(losses.column_range(0, batch.target.rows()));
}

std::vector<float> ModelRun::evaluate(const Batch& batch, float smoothing) {
    poison_arena();
    const Arena::Scope scope(arena_);
    const DeviceBatch device = upload_batch(backend_, arena_, batch, capacity_);
    const Tensor losses = arena_.allocate_vector(DataType::kF32, device.labels.columns);
    model_.evaluate(backend_, arena_, device, weights_, losses, smoothing);
    return floats(losses.column_range(0, batch.target.rows()));
}

std::vector<float> ModelRun::logits(const Batch& batch) {
    poison_arena();
    const Arena::Scope scope(arena_);
    const DeviceBatch device = upload_batch(backend_, arena_, batch, capacity_);
    const std::int64_t rows = device.labels.columns;
    const DeviceBuffer memory = backend_.allocate(rows * model_.vocabulary_size() * size_of(model_.activation_type()));
    const Tensor logits = make_tensor(memory.data(), model_.activation_type(), rows, model_.vocabulary_size());
    model_.logits(backend_, arena_, device, weights_, logits);
    return floats(logits.row_range(0, batch.target.rows()));
}

void ModelRun::adam(std::int64_t step, double learning_rate, std::int64_t tokens, double epsilon) {
    const Tensor divisor = make_vector(scalar_memory_.data(), DataType::kF32, 1);
    const Tensor square_sum =
        make_vector(static_cast<std::byte*>(scalar_memory_.data()) + Arena::kAlignment, DataType::kF32, 1);
    const auto count = static_cast<float>(tokens);
    backend_.upload(divisor, &count);
    backend_.sum_squares(square_sum, gradients_, Write::kOverwrite);
    backend_.adamw({.values = values_,
                    .weights = model_.activation_type() == DataType::kF32 ? Tensor{} : weights_,
                    .first = first_,
                    .second = second_,
                    .gradients = gradients_,
                    .divisor = divisor,
                    .square_sum = square_sum,
                    .learning_rate = static_cast<float>(learning_rate),
                    .epsilon = static_cast<float>(epsilon),
                    .step = step});
    if (model_.activation_type() == DataType::kF32) backend_.copy(weights_, values_);
}

}  // namespace duologue
