// Bump allocation with a recorded peak.
#include "duologue/core/arena.h"

#include <algorithm>

#include "duologue/core/error.h"
#include "duologue/core/rounding.h"

namespace duologue {

Arena::Arena(void* memory, std::int64_t bytes) : memory_(static_cast<std::byte*>(memory)), capacity_(bytes) {
    require(reinterpret_cast<std::uintptr_t>(memory) % kAlignment == 0, ErrorCode::kInternal,
            "an arena's memory must be aligned to {} bytes", kAlignment);
}

Tensor Arena::allocate(DataType type, std::int64_t rows, std::int64_t columns) {
    require(rows >= 0 && columns >= 0, ErrorCode::kInternal, "an arena tensor of {} x {}", rows, columns);
    const std::int64_t bytes = rounded_up(rows * columns * size_of(type), kAlignment);
    require(capacity_ < 0 || used_ + bytes <= capacity_, ErrorCode::kInternal,
            "arena exhausted: {} bytes asked for with {} of {} in use; the plan and the run differ", bytes, used_,
            capacity_);
    // A measuring arena starts at a non-null address that nobody dereferences, so that no tensor looks absent.
    std::byte* base = capacity_ < 0 ? reinterpret_cast<std::byte*>(kAlignment) : memory_;
    void* data = base + used_;
    used_ += bytes;
    peak_ = std::max(peak_, used_);
    return make_tensor(data, type, rows, columns);
}

}  // namespace duologue
