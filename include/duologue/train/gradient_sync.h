// GradientSync: sums finished ranges of the gradients over the ranks while the backward pass still runs.
#pragma once

#include <cstddef>
#include <cstdint>

#include "duologue/backend/repeater.h"
#include "duologue/comm/communicator.h"
#include "duologue/train/training_state.h"

namespace duologue {

/// Queues the sum of a bucket as soon as it is finished. With several owners of the optimizer's state, each gets the
/// sum of its piece alone.
class GradientSync {
   public:
    /// All outlive it. What finishes gradients runs in `repeater`, which refers to this.
    GradientSync(Communicator& communicator, const TrainingState& state, Repeater& repeater)
        : communicator_(communicator), state_(state), repeater_(repeater) {}
    ~GradientSync() = default;
    GradientSync(const GradientSync&) = delete;
    GradientSync& operator=(const GradientSync&) = delete;
    GradientSync(GradientSync&&) = delete;
    GradientSync& operator=(GradientSync&&) = delete;

    /// A step begins: nothing is finished.
    void begin() {
        finished_ = 0;
        queued_buckets_ = 0;
    }
    /// Elements [begin, end) are final; ranges come in ascending order and without gaps. Part of a work that is
    /// repeated: the sums are queued whenever it is.
    void finished(std::int64_t begin, std::int64_t end);
    /// Queues what is left (all of it on a rank that had no micro-batch) and the sum of `statistics`, and joins.
    void join(const Tensor& statistics);

   private:
    [[nodiscard]] std::size_t whole_buckets(std::int64_t end) const;
    void queue_up_to(std::int64_t end);
    void queue(std::size_t bucket);

    Communicator& communicator_;
    const TrainingState& state_;
    Repeater& repeater_;
    std::int64_t finished_ = 0;
    std::size_t queued_buckets_ = 0;
};

}  // namespace duologue
