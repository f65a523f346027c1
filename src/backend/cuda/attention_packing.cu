// Offsets, lengths and seeds for cuDNN's attention; rows moved between packings.
#include "backend/cuda/attention_packing.h"
#include "backend/cuda/launch.cuh"

namespace duologue::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kMoveRows = 8;  // of a block of move_rows_kernel: a warp has one

// Where slot `slot` begins.
__device__ __forceinline__ std::int32_t first_row(const std::int32_t* offsets, const PackingOrder& order,
                                                  std::int64_t slot) {
    if (order.packing == Packing::kTiled) return offsets[slot];
    const std::int64_t known = min(slot, order.sequences);
    std::int32_t row = offsets[known] + static_cast<std::int32_t>(slot - known);
    for (std::int64_t i = 0; i < known; ++i) row += offsets[i + 1] == offsets[i] ? 1 : 0;
    return row;
}

__device__ __forceinline__ std::int32_t length_of(const std::int32_t* offsets, std::int64_t sequences,
                                                  std::int64_t slot) {
    return slot < sequences ? max(offsets[slot + 1] - offsets[slot], 1) : 1;
}

__device__ __forceinline__ bool is_of_keys(int array) {
    return array == kKOffsets || array == kVOffsets || array == kDkOffsets || array == kDvOffsets;
}

// A thread has one slot, or the end of the last.
__global__ void __launch_bounds__(kThreads)
    order_packing_kernel(PackedOrder packed, PackingOrder order, const std::uint64_t* random_key) {
    const std::int64_t slot = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (slot > order.slots) return;
    const std::int32_t q_row = first_row(order.q_offsets, order, slot);
    const std::int32_t kv_row = first_row(order.kv_offsets, order, slot);
    packed.q_rows[slot] = q_row;
    packed.kv_rows[slot] = kv_row;
#pragma unroll
    for (int array = 0; array < kOffsetArrays; ++array) {
        const std::int64_t row = is_of_keys(array) ? kv_row : q_row;
        packed.offsets[array * (order.slots + 1) + slot] = row * order.strides[array];
    }
    if (slot < order.slots) {
        packed.q_lengths[slot] = length_of(order.q_offsets, order.sequences, slot);
        packed.kv_lengths[slot] = length_of(order.kv_offsets, order.sequences, slot);
    }
    if (slot == 0) {
        packed.seed[0] = static_cast<std::int64_t>(mix_key(*random_key, order.dropout_site));
        packed.seed[1] = 0;
    }
}

template <class T>
struct Movement {
    T* to;
    const T* from;
    std::int64_t to_stride;
    std::int64_t from_stride;
    std::int64_t columns;
    const std::int32_t* to_offsets;
    const std::int32_t* from_offsets;
    const std::int32_t* lengths_of;
};

// Block (sequence, kMoveRows rows); a warp moves one row.
template <class T>
__global__ void __launch_bounds__(kThreads) move_rows_kernel(Movement<T> at) {
    const std::int64_t sequence = blockIdx.x;
    const std::int64_t i = static_cast<std::int64_t>(blockIdx.y) * kMoveRows + threadIdx.x / kWarp;
    if (i >= at.lengths_of[sequence + 1] - at.lengths_of[sequence]) return;
    T* to = at.to + (at.to_offsets[sequence] + i) * at.to_stride;
    const T* from = at.from + (at.from_offsets[sequence] + i) * at.from_stride;
    for (std::int64_t c = threadIdx.x % kWarp; c < at.columns; c += kWarp) to[c] = from[c];
}

__global__ void __launch_bounds__(kThreads) pad_stats_kernel(StatsPadding at) {
    const std::int64_t all = at.sequences * at.heads * at.max_length;
    const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads;
    for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < all; i += stride) {
        const std::int64_t sequence = i / (at.heads * at.max_length);
        const std::int64_t head = i / at.max_length % at.heads;
        const std::int64_t row = at.offsets[sequence] + i % at.max_length;
        at.to[i] = row < at.offsets[sequence + 1] ? at.from[row * at.heads + head] : 0.0F;
    }
}

}  // namespace

cudaError_t order_packing(const Launch& launch, const PackedOrder& packed, const PackingOrder& order) {
    const auto blocks = static_cast<unsigned>(divided_up(order.slots + 1, kThreads));
    return launch_kernel(launch.stream, {blocks, kThreads}, order_packing_kernel, packed, order, launch.random_key);
}

cudaError_t move_rows(const Launch& launch, const RowMove& move) {
    if (move.sequences == 0 || move.max_length == 0) return cudaSuccess;
    return with_type(move.to.type, [&](auto element) {
        using T = decltype(element);
        const Movement<T> at{.to = move.to.as<T>(),
                             .from = move.from.as<T>(),
                             .to_stride = move.to.row_stride,
                             .from_stride = move.from.row_stride,
                             .columns = move.to.columns,
                             .to_offsets = move.to_offsets,
                             .from_offsets = move.from_offsets,
                             .lengths_of = move.lengths_of};
        const dim3 grid(static_cast<unsigned>(move.sequences),
                        static_cast<unsigned>(divided_up(move.max_length, kMoveRows)));
        return launch_kernel(launch.stream, {grid, kThreads}, move_rows_kernel<T>, at);
    });
}

cudaError_t pad_stats(const Launch& launch, const StatsPadding& padding) {
    const std::int64_t elements = padding.sequences * padding.heads * padding.max_length;
    if (elements == 0) return cudaSuccess;
    const unsigned grid = grid_for(launch, elements, kThreads, 8);
    return launch_kernel(launch.stream, {grid, kThreads}, pad_stats_kernel, padding);
}

}  // namespace duologue::cuda
