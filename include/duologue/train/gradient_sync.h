// GradientSync: sums finished ranges of the gradients over the ranks while the backward pass still runs.
#pragma once

#include <cstdint>

#include "duologue/comm/communicator.h"
#include "duologue/core/tensor.h"

namespace duologue {

/// Cuts the flat gradients into buckets at fixed places, which are the same on every rank whatever its work, and queues
/// the sum of a bucket as soon as it is finished.
class GradientSync {
   public:
    /// `gradients` f32 [n]. Buckets hold at least `bucket_bytes`, but for the last.
    GradientSync(Communicator& communicator, const Tensor& gradients, std::int64_t bucket_bytes);

    /// A step begins: nothing is finished.
    void begin() { finished_ = queued_ = 0; }
    /// Elements [begin, end) are final; ranges come in ascending order and without gaps.
    void finished(std::int64_t begin, std::int64_t end);
    /// Queues what is left (all of it on a rank that had no micro-batch) and the sum of `statistics`, and waits for
    /// all of it.
    void join(const Tensor& statistics);

   private:
    void queue_up_to(std::int64_t end);

    Communicator& communicator_;
    Tensor gradients_;
    std::int64_t bucket_elements_;
    std::int64_t finished_ = 0;
    std::int64_t queued_ = 0;
};

}  // namespace duologue
