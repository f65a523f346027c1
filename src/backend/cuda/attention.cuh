// What our own attention's kernels share: operands, where sequences lie, tiles of keys or queries in shared memory.
#pragma once

#include "backend/cuda/launch.cuh"

namespace duologue::cuda {

// A warp works on one row (a query, or a key in the backward pass) against tiles of kTile rows of the other side, one
// row of the tile per lane; then every lane sums its own columns of the result over the tile.
inline constexpr int kTile = kWarp;
inline constexpr int kTileWarps = 8;
inline constexpr int kTileThreads = kTileWarps * kWarp;

template <class T>
struct Rows {
    const T* data = nullptr;
    std::int64_t stride = 0;
};

template <class T>
Rows<T> rows_of(const Tensor& tensor) {
    return {.data = tensor.as<T>(), .stride = tensor.row_stride};
}

/// Where packed sequences lie; with `lengths` instead: the caches of attention_decode.
struct Sequences {
    const std::int32_t* q_offsets = nullptr;
    const std::int32_t* kv_offsets = nullptr;
    const std::int32_t* lengths = nullptr;
    std::int64_t capacity = 0;
};

struct Span {
    std::int64_t begin;
    std::int64_t end;
};

__device__ __forceinline__ Span query_span(const Sequences& sequences, std::int64_t sequence) {
    if (sequences.lengths != nullptr) return {.begin = sequence, .end = sequence + 1};
    return {.begin = sequences.q_offsets[sequence], .end = sequences.q_offsets[sequence + 1]};
}

__device__ __forceinline__ Span key_span(const Sequences& sequences, std::int64_t sequence) {
    if (sequences.lengths != nullptr) {
        const std::int64_t begin = sequence * sequences.capacity;
        return {.begin = begin, .end = begin + sequences.lengths[sequence]};
    }
    return {.begin = sequences.kv_offsets[sequence], .end = sequences.kv_offsets[sequence + 1]};
}

// Rows of a tile are padded by one element, so that 32 lanes reading one column each meet 32 banks.
__host__ __device__ constexpr int tile_stride(int head_columns) { return head_columns + 1; }

/// Rows [first, first + kTile) of one head into shared memory; rows from `end` on are 0.
template <class T>
__device__ __forceinline__ void load_tile(float* tile, const Rows<T>& rows, std::int64_t first, std::int64_t end,
                                          std::int64_t first_column, int head_columns) {
    for (int i = static_cast<int>(threadIdx.x); i < kTile * head_columns; i += kTileThreads) {
        const int r = i / head_columns;
        const int c = i % head_columns;
        const std::int64_t row = first + r;
        tile[r * tile_stride(head_columns) + c] =
            row < end ? to_float(rows.data[row * rows.stride + first_column + c]) : 0.0F;
    }
}

/// The dot product of a row in shared memory with this lane's row of a tile.
__device__ __forceinline__ float dot(const float* row, const float* tile, int lane, int head_columns) {
    const float* other = tile + lane * tile_stride(head_columns);
    float sum = 0.0F;
    for (int c = 0; c < head_columns; ++c) sum = fmaf(row[c], other[c], sum);
    return sum;
}

/// sums[k] of column lane + 32 k += sum over the tile's rows j of weight (lane j's) times the row.
template <int kColumns>
__device__ __forceinline__ void add_weighted(float (&sums)[kColumns], float weight, const float* tile, int lane,
                                             int head_columns) {
    for (int j = 0; j < kTile; ++j) {
        const float factor = __shfl_sync(kAllLanes, weight, j);
#pragma unroll
        for (int k = 0; k < kColumns; ++k) {
            const int c = lane + k * kWarp;
            if (c < head_columns) sums[k] = fmaf(factor, tile[j * tile_stride(head_columns) + c], sums[k]);
        }
    }
}

/// This lane's columns of a result row.
template <int kColumns, class T>
__device__ __forceinline__ void store_columns(T* to, const float (&values)[kColumns], float scale, int lane,
                                              int head_columns) {
#pragma unroll
    for (int k = 0; k < kColumns; ++k) {
        const int c = lane + k * kWarp;
        if (c < head_columns) to[c] = from_float<T>(values[k] * scale);
    }
}

/// Calls `use` with the columns of a head that one lane has: 1, 2, 4 or 8.
template <class Use>
cudaError_t with_columns(std::int64_t head_columns, const Use& use) {
    if (head_columns <= kWarp) return use(std::integral_constant<int, 1>{});
    if (head_columns <= 2 * kWarp) return use(std::integral_constant<int, 2>{});
    if (head_columns <= 4 * kWarp) return use(std::integral_constant<int, 4>{});
    return use(std::integral_constant<int, 8>{});
}

/// Shared memory of `tiles` tiles and, for every warp, `rows` rows.
inline std::size_t shared_bytes(int tiles, int rows, int head_columns) {
    return static_cast<std::size_t>(tiles * kTile * tile_stride(head_columns) + rows * kTileWarps * head_columns) *
           sizeof(float);
}

}  // namespace duologue::cuda
