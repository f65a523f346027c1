// Cutting at multiples.
#include "duologue/train/flat_layout.h"

#include <algorithm>

#include "duologue/core/error.h"
#include "duologue/core/rounding.h"

namespace duologue {

FlatLayout::FlatLayout(std::int64_t elements, std::int64_t bucket_bytes, const Owner& owner)
    : elements_(elements), sharded_(owner.count > 1) {
    require(elements >= 0 && owner.index >= 0 && owner.index < owner.count, ErrorCode::kInternal,
            "{} elements for owner {} of {}", elements, owner.index, owner.count);
    const std::int64_t multiple = sharded_ ? owner.count * kPieceAlignment : 1;
    constexpr std::int64_t kBytes = sizeof(float);
    const std::int64_t bucket = rounded_up(std::max<std::int64_t>(divided_up(bucket_bytes, kBytes), 1), multiple);
    padded_ = rounded_up(elements, multiple);
    for (std::int64_t begin = 0; begin < padded_; begin += bucket) {
        buckets_.push_back({.begin = begin, .length = std::min(bucket, padded_ - begin)});
    }
    if (!sharded_) {
        pieces_.push_back({.range = {.begin = 0, .length = padded_}, .offset = 0});
        slice_ = padded_;
        return;
    }
    for (const FlatRange& range : buckets_) {
        const std::int64_t length = range.length / owner.count;
        pieces_.push_back({.range = {.begin = range.begin + owner.index * length, .length = length}, .offset = slice_});
        slice_ += length;
    }
}

}  // namespace duologue
