// bfloat16: the upper half of an IEEE float, rounded to nearest even.
#pragma once

#include <bit>
#include <cstdint>

namespace duologue {

struct Bfloat16 {
    std::uint16_t bits = 0;

    Bfloat16() = default;
    explicit Bfloat16(float value) {
        const auto word = std::bit_cast<std::uint32_t>(value);
        if ((word & 0x7fffffffU) > 0x7f800000U) {  // NaN: keep it quiet, never round it to infinity
            bits = static_cast<std::uint16_t>((word >> 16) | 0x40U);
        } else {
            bits = static_cast<std::uint16_t>((word + 0x7fffU + ((word >> 16) & 1U)) >> 16);
        }
    }
    explicit operator float() const { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }
};

static_assert(sizeof(Bfloat16) == 2);

}  // namespace duologue
