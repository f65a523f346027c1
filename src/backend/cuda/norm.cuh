// What the norm's two passes share: which thread has which part of a row, and sums over rows.
#pragma once

#include "backend/cuda/launch.cuh"

namespace duologue::cuda {

// A row belongs to a group of blockDim.x threads (whole warps), blockDim.y rows to a block. A thread keeps kOctets
// octets of its row in registers, blockDim.x octets apart: one, or two of rows that need more than a block's threads.
inline constexpr int kBlockThreads = 256;
inline constexpr int kMostOctets = 2;
static_assert(kMaxNormColumns == kBlockThreads * kMostOctets * kOctet);

struct Columns {
    std::int64_t first;
    std::int64_t count;  // from `first` to the end of the row; may be 0 or less
};

__device__ __forceinline__ Columns columns_of(int octet, std::int64_t width) {
    const std::int64_t first = (static_cast<std::int64_t>(octet) * blockDim.x + threadIdx.x) * kOctet;
    return {.first = first, .count = width - first};
}

struct TwoSums {
    float a;
    float b;
};

// Where the warps of a block leave their sums for the other warps of their group. A sum uses one half and the next the
// other: who writes again to the first has met all others since they read it, at the barrier of the sum in between.
struct WarpSums {
    TwoSums of[2][kBlockThreads / kWarp];
};

// Sums over the group that this thread belongs to, in the same order everywhere. All threads of the block have to come.
__device__ __forceinline__ TwoSums group_sums(TwoSums sums, WarpSums& shared, unsigned half) {
    sums = {.a = warp_sum(sums.a), .b = warp_sum(sums.b)};
    if (blockDim.x == kWarp) return sums;
    const unsigned warps = blockDim.x / kWarp;
    TwoSums* group = &shared.of[half][threadIdx.y * warps];
    if (threadIdx.x % kWarp == 0) group[threadIdx.x / kWarp] = sums;
    __syncthreads();
    TwoSums total{};
#pragma unroll 4
    for (unsigned i = 0; i < warps; ++i) {
        total.a += group[i].a;
        total.b += group[i].b;
    }
    return total;
}

// Of a thread.
inline int octets_of(std::int64_t width) { return width > kBlockThreads * kOctet ? 2 : 1; }

// Threads of a row's group, rows of a block.
inline dim3 block_of(std::int64_t width) {
    const auto lanes = static_cast<unsigned>(rounded_up(divided_up(width, octets_of(width) * kOctet), kWarp));
    return {lanes, kBlockThreads / lanes};
}

// Calls `use(how many octets a thread has)`, a constant.
template <class Use>
cudaError_t with_octets(std::int64_t width, const Use& use) {
    return octets_of(width) == 1 ? use(std::integral_constant<int, 1>{}) : use(std::integral_constant<int, 2>{});
}

}  // namespace duologue::cuda
