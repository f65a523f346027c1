// Range: which numbers an option takes, and how that is said.
#pragma once

#include <fmt/format.h>

#include <string>

namespace duologue {

/// Both ends belong to the range.
struct Range {
    double low = 0.0;
    double high = 0.0;

    [[nodiscard]] constexpr bool holds(double value) const { return value >= low && value <= high; }
};

inline constexpr double kNoLimit = 0x1p64;
constexpr Range at_least(double low) { return {.low = low, .high = kNoLimit}; }
constexpr Range between(double low, double high) { return {.low = low, .high = high}; }

/// For lists: "1 to 5", "at least 1".
[[nodiscard]] inline std::string to_text(Range range) {
    return range.high >= kNoLimit ? fmt::format("at least {}", range.low)
                                  : fmt::format("{} to {}", range.low, range.high);
}

/// For sentences: "an integer from 1 to 5", "an integer of at least 1".
[[nodiscard]] inline std::string describe(const std::string& type, Range range) {
    return fmt::format("{} {} {}", type, range.high >= kNoLimit ? "of" : "from", to_text(range));
}

}  // namespace duologue
