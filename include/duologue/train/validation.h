// Validation: the loss on the validation split, its micro-batches spread over the ranks.
#pragma once

#include <cstdint>
#include <vector>

#include "duologue/comm/communicator.h"
#include "duologue/train/micro_batch.h"

namespace duologue {

/// The cross-entropy of the labels under their own frequencies (nats per token): what the best model without context
/// would reach. 0 without labels.
[[nodiscard]] double unigram_loss(const std::vector<Batch>& batches);

/// What validation runs on; all outlive the call. `scalar` f32 [1] is device memory to work with.
struct ValidationWork {
    Backend& backend;
    Arena& arena;
    Communicator& communicator;
    const Transformer& model;
    const BatchCapacity& capacity;
    Tensor weights;     ///< act [elements()]
    Tensor statistics;  ///< f32 [2], device memory to work with
};

/// Negative log-likelihood (no smoothing, no dropout) per label over all `batches`; micro-batch i runs on rank i mod R.
/// The same value on every rank. kInternal without labels.
[[nodiscard]] double validation_loss(const ValidationWork& work, const std::vector<Batch>& batches);

}  // namespace duologue
