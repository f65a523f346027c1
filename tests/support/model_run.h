// ModelRun: a small Transformer with its flat buffers and arena on one back end, driven from host vectors.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "duologue/backend/backend.h"
#include "duologue/model/transformer.h"

namespace duologue {

/// Sequences packed end to end, with their labels.
[[nodiscard]] Batch pack_batch(const std::vector<std::vector<std::int32_t>>& sources,
                               const std::vector<std::vector<std::int32_t>>& targets,
                               const std::vector<std::vector<std::int32_t>>& labels);
/// The smallest capacity that holds `batch`.
[[nodiscard]] BatchCapacity capacity_of(const Batch& batch);
/// Random sequences, 1 to max_length tokens a side (`sequences` empty for a decoder-only source), some labels -1.
struct RandomBatch {
    std::int64_t sequences = 3;
    std::int64_t max_length = 7;
    std::int64_t vocabulary = 19;
    ModelKind kind = ModelKind::kEncoderDecoder;
    std::uint64_t seed = 1;
};
[[nodiscard]] Batch random_batch(const RandomBatch& shape);

class ModelRun {
   public:
    ModelRun(Backend& backend, const ModelConfig& config, std::int64_t vocabulary_size, Precision precision,
             const BatchCapacity& capacity);

    [[nodiscard]] const Transformer& model() const { return model_; }
    [[nodiscard]] Backend& backend() const { return backend_; }
    [[nodiscard]] const Tensor& weights() const { return weights_; }
    [[nodiscard]] std::int64_t planned_bytes() const { return arena_memory_.bytes(); }
    [[nodiscard]] std::int64_t used_bytes() const { return arena_.peak_bytes(); }

    /// The flat f32 parameters; the weights are their rounding.
    void set_parameters(const std::vector<float>& flat);
    [[nodiscard]] std::vector<float> parameters() const;

    void zero_gradients() { backend_.zero(gradients_); }
    [[nodiscard]] std::vector<float> gradients() const;
    using Range = std::pair<std::int64_t, std::int64_t>;

    /// Losses of every row of the batch, which itself may lie in a larger one; gradients are added to. Kept: the ranges
    /// reported, and the gradients as they then were.
    std::vector<float> train(const Batch& batch, float smoothing, std::uint64_t key = 1);
    [[nodiscard]] const std::vector<Range>& finished() const { return finished_; }
    [[nodiscard]] const std::vector<float>& gradients_when_finished() const { return gradients_when_finished_; }
    [[nodiscard]] std::vector<float> evaluate(const Batch& batch, float smoothing);
    [[nodiscard]] std::vector<float> logits(const Batch& batch);

    /// One Adam step on the gradients divided by `tokens`.
    void adam(std::int64_t step, double learning_rate, std::int64_t tokens, double epsilon = 1e-9);

   private:
    [[nodiscard]] Tensor flat(DeviceBuffer& memory, DataType type);
    /// Fills the arena with NaN, so that whatever is read before it is written shows.
    void poison_arena();
    [[nodiscard]] std::vector<float> floats(const Tensor& tensor) const;

    Backend& backend_;
    BatchCapacity capacity_;
    Transformer model_;
    DeviceBuffer values_memory_;
    DeviceBuffer weights_memory_;
    DeviceBuffer gradients_memory_;
    DeviceBuffer first_memory_;
    DeviceBuffer second_memory_;
    DeviceBuffer scalar_memory_;
    DeviceBuffer arena_memory_;
    Tensor values_;
    Tensor weights_;
    Tensor gradients_;
    Tensor first_;
    Tensor second_;
    Arena arena_;
    std::vector<Range> finished_;
    std::vector<float> gradients_when_finished_;
};

/// The arena bytes that a training or an evaluation pass at full capacity takes, on a planning back end.
[[nodiscard]] std::int64_t plan_bytes(const Backend& backend, Transformer model, const BatchCapacity& capacity);

}  // namespace duologue
