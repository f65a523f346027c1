// Buckets at fixed places, queued in order.
#include "duologue/train/gradient_sync.h"

#include <algorithm>

#include "duologue/core/error.h"

namespace duologue {

GradientSync::GradientSync(Communicator& communicator, const Tensor& gradients, std::int64_t bucket_bytes)
    : communicator_(communicator),
      gradients_(gradients),
      bucket_elements_(std::max<std::int64_t>((bucket_bytes + 3) / size_of(gradients.type), 1)) {}

void GradientSync::finished(std::int64_t begin, std::int64_t end) {
    require(begin == finished_ && end >= begin && end <= gradients_.columns, ErrorCode::kInternal,
            "gradients [{}, {}) of {} are said to be finished after [0, {})", begin, end, gradients_.columns,
            finished_);
    finished_ = end;
    queue_up_to(finished_);
}

void GradientSync::queue_up_to(std::int64_t end) {
    while (queued_ < end) {
        const std::int64_t next = std::min(queued_ + bucket_elements_, gradients_.columns);
        if (next > end) return;
        communicator_.all_reduce_sum(gradients_.column_range(queued_, next - queued_), "the sum of gradients");
        queued_ = next;
    }
}

void GradientSync::join(const Tensor& statistics) {
    queue_up_to(gradients_.columns);
    communicator_.all_reduce_sum(statistics, "the sum of a step's statistics");
    communicator_.join();
}

}  // namespace duologue
