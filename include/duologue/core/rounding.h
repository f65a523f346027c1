// Rounding up: how many pieces cover a length, and the length that they cover. Kernels, which cannot call it, write it
// out
#pragma once

#include <cstdint>

namespace duologue {

/// The least number of pieces of `by` that cover `value`. `value` not negative, `by` positive.
[[nodiscard]] constexpr std::int64_t divided_up(std::int64_t value, std::int64_t by) { return (value + by - 1) / by; }

/// The least multiple of `unit` that is no less than `value`. `value` not negative, `unit` positive.
[[nodiscard]] constexpr std::int64_t rounded_up(std::int64_t value, std::int64_t unit) {
    return divided_up(value, unit) * unit;
}

}  // namespace duologue
