// Lengths rounded up to a few, so that what is made for a length serves its neighbours too.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "duologue/core/rounding.h"

namespace duologue::cuda {

/// The length or a little more: eight values between a power of two and the next.
[[nodiscard]] constexpr std::int64_t bucket_of(std::int64_t length) {
    const auto width = static_cast<int>(std::bit_width(static_cast<std::uint64_t>(length)));
    return rounded_up(length, std::int64_t{1} << std::max(0, width - 4));
}

}  // namespace duologue::cuda
