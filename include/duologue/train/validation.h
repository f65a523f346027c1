// Validation: the loss on the validation split, its micro-batches spread over the ranks.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "duologue/comm/communicator.h"
#include "duologue/train/micro_batch.h"

namespace duologue {

/// The cross-entropy of the labels under their own frequencies (nats per token): what the best model without context
/// would reach. 0 without labels.
[[nodiscard]] double unigram_loss(const std::vector<Batch>& batches);

/// Told after each of this rank's micro-batches how many of them are done.
using BatchesDone = std::function<void(std::int64_t done, std::int64_t all)>;

/// What validation runs on; all outlive the call.
struct ValidationWork {
    Backend& backend;
    Arena& arena;
    Communicator& communicator;
    const Transformer& model;
    const BatchCapacity& capacity;
    Tensor weights;     ///< act [elements()]
    Tensor statistics;  ///< f32 [2], device memory to work with
    BatchesDone on_batch;
};

/// Negative log-likelihood (no smoothing, no dropout) per label over all `batches`; micro-batch i runs on rank i mod R.
/// The same value on every rank. kInternal without labels.
[[nodiscard]] double validation_loss(const ValidationWork& work, const std::vector<Batch>& batches);

struct HeldOutLoss {
    double loss = 0.0;          ///< as validation_loss()
    double unigram_loss = 0.0;  ///< as unigram_loss()
    std::int64_t labels = 0;    ///< what both are the means over
};

/// The loss of a finished model on one device, outside of training; allocates the scratch memory it needs and gives it
/// back. kInternal without labels.
[[nodiscard]] HeldOutLoss held_out_loss(Backend& backend, const Transformer& model, const Tensor& weights,
                                        const BatchCapacity& capacity, const std::vector<Batch>& batches,
                                        const BatchesDone& on_batch);

}  // namespace duologue
