// Micro-batch: the one piece of work of training and validation, and what it costs; run for real and for the plan.
#pragma once

#include <cstdint>

#include "duologue/backend/backend.h"
#include "duologue/core/arena.h"
#include "duologue/data/batches.h"
#include "duologue/model/transformer.h"

namespace duologue {

/// What a micro-batch works on besides its tokens.
struct MicroBatchWork {
    const Transformer& model;
    Tensor weights;    ///< act [elements()]
    Tensor gradients;  ///< f32 [elements()] +=; absent: forward only, no dropout
    Tensor loss_sum;   ///< f32 [1] +=
    float smoothing = 0.0F;
};

/// Runs `batch` and adds its losses. `on_finished` as in Transformer::train_step. All scratch comes from `arena`, and
/// is given back.
void run_micro_batch(Backend& backend, Arena& arena, const DeviceBatch& batch, const MicroBatchWork& work,
                     const GradientsFinished& on_finished);

/// What training needs, found by running it on a planning back end.
struct TrainingPlan {
    std::int64_t parameters = 0;
    std::int64_t elements = 0;          ///< of a flat buffer, gaps between parameters included
    std::int64_t weight_bytes = 0;      ///< weights in activation type; 0 where that is f32: they are the master values
    std::int64_t arena_bytes = 0;       ///< activations and scratch of one micro-batch at capacity
    std::int64_t batch_bytes = 0;       ///< its tokens, beside the arena while training, inside it while validating
    std::int64_t constant_bytes = 0;    ///< the model's tables
    double flops_per_source_row = 0.0;  ///< of matmuls, forward and backward
    double flops_per_target_row = 0.0;
    double attention_flops_per_pair = 0.0;  ///< one query and one key in one block, forward and backward
    std::int64_t encoder_layers = 0;
    std::int64_t decoder_layers = 0;

    /// FLOPs of a forward and backward pass over `batch` (2 per multiply-add, nothing recomputed; causal attention
    /// counts the half that it sees).
    [[nodiscard]] double flops(const Batch& batch) const { return matmul_flops(batch) + attention_flops(batch); }
    [[nodiscard]] double matmul_flops(const Batch& batch) const;
    [[nodiscard]] double attention_flops(const Batch& batch) const;
};

/// What a model and its batches are made from.
struct PlanSettings {
    ModelConfig model;
    std::int64_t vocabulary_size = 0;
    Precision precision = Precision::kF32;
    BatchCapacity capacity;
};

/// `device_like` answers for sizes that are the device's choice.
[[nodiscard]] TrainingPlan plan_training(const Backend& device_like, const PlanSettings& settings);

/// Bytes of the arena that validation alone needs.
[[nodiscard]] std::int64_t plan_evaluation_arena(const Backend& device_like, const Transformer& model,
                                                 const BatchCapacity& capacity);

}  // namespace duologue
