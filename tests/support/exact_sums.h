// Exact sums: values whose sums over ranks are exact in f32, whatever their order
#pragma once

#include <cstdint>
#include <vector>

#include "duologue/core/random.h"

namespace duologue {

/// A multiple of 2^-6 below 16, another for every rank and index.
inline float exact_value(int rank, std::int64_t index) {
    return static_cast<float>(mix_key(static_cast<std::uint64_t>(rank), static_cast<std::uint64_t>(index)) % 1024) *
           0x1.0p-6F;
}

inline std::vector<float> exact_values(int rank, std::int64_t count) {
    std::vector<float> values(static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < count; ++i) values[static_cast<std::size_t>(i)] = exact_value(rank, i);
    return values;
}

inline float exact_sum(int ranks, std::int64_t index) {
    float sum = 0.0F;
    for (int rank = 0; rank < ranks; ++rank) sum += exact_value(rank, index);
    return sum;
}

inline std::vector<float> exact_sums(int ranks, std::int64_t count) {
    std::vector<float> sums(static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < count; ++i) sums[static_cast<std::size_t>(i)] = exact_sum(ranks, i);
    return sums;
}

}  // namespace duologue
