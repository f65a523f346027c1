// The factors of inverted dropout, eight half-words per counter, equal to dropout_keeps() for every element.
#pragma once

#include <cstdint>

#include "duologue/backend/backend.h"

namespace duologue::cpu {

/// One site of dropout under the key of the micro-step.
class DropoutMask {
   public:
    DropoutMask(const Dropout& dropout, std::uint64_t random_key);
    [[nodiscard]] bool active() const { return threshold_ > 0; }

    /// Floats of a buffer for factors() of `count` elements.
    [[nodiscard]] static constexpr std::int64_t buffer_floats(std::int64_t count) { return count + 4 * kGroup + 16; }
    /// Readies a buffer for up to `count` elements: without dropout all its factors are 1 and stay so.
    void prepare(float* buffer, std::int64_t count) const;
    /// The factors, 0 or dropout_scale(), of elements first .. first + count: a place in `buffer`, readable in whole
    /// vectors.
    [[nodiscard]] const float* factors(float* buffer, std::uint64_t first, std::int64_t count) const;

   private:
    static constexpr std::int64_t kGroup = 32;  // elements of four counters, the least that is generated

    std::uint64_t key_;
    std::uint32_t threshold_;
    float scale_;
};

}  // namespace duologue::cpu
