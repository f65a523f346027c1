// Buckets at fixed places, queued in order.
#include "duologue/train/gradient_sync.h"

#include <algorithm>

#include "duologue/core/error.h"

namespace duologue {

void GradientSync::finished(std::int64_t begin, std::int64_t end) {
    const std::int64_t elements = state_.layout().elements();
    require(begin == finished_ && end >= begin && end <= elements, ErrorCode::kInternal,
            "gradients [{}, {}) of {} are said to be finished after [0, {})", begin, end, elements, finished_);
    finished_ = end;
    // Nobody works on the padding at the end: it is finished with the last gradient.
    const std::int64_t ready = end == elements ? state_.layout().padded_elements() : end;
    if (whole_buckets(ready) > whole_buckets(begin)) repeater_.between([this, ready] { queue_up_to(ready); });
}

std::size_t GradientSync::whole_buckets(std::int64_t end) const {
    const auto& buckets = state_.layout().buckets();
    const auto first_open = std::find_if(buckets.begin(), buckets.end(),
                                         [end](const FlatRange& bucket) { return bucket.begin + bucket.length > end; });
    return static_cast<std::size_t>(first_open - buckets.begin());
}

void GradientSync::queue_up_to(std::int64_t end) {
    const std::size_t ready = whole_buckets(end);
    for (; queued_buckets_ < ready; ++queued_buckets_) queue(queued_buckets_);
}

void GradientSync::queue(std::size_t bucket) {
    constexpr const char* kWhat = "the sum of gradients";
    const FlatLayout& layout = state_.layout();
    const Tensor all = state_.gradients(layout.buckets()[bucket]);
    if (layout.sharded()) {
        communicator_.reduce_scatter_sum(state_.gradients(layout.pieces()[bucket].range), all, kWhat);
    } else {
        communicator_.all_reduce_sum(all, kWhat);
    }
}

void GradientSync::join(const Tensor& statistics) {
    queue_up_to(state_.layout().padded_elements());
    communicator_.all_reduce_sum(statistics, "the sum of a step's statistics");
    communicator_.join();
}

}  // namespace duologue
