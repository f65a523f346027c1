// Our own attention of bf16 on tensor cores, forward: softmax along the way (Dao 2023, "FlashAttention-2").
#include <cmath>

#include "backend/cuda/tensor_core_attention.cuh"

namespace duologue::cuda {

namespace {

struct Operands {
    Bf16* y;
    float* stats;
    Rows<Bf16> q;
    Rows<Bf16> k;
    Rows<Bf16> v;
    std::int64_t y_stride;
    Sequences sequences;
    DropoutDraw draw;
    std::int64_t key_rows;  // of k: what dropout counts elements by
    int heads;
    float scale;
    Causal causal;
};

// Softmax's state of a warp's strip of queries, of which a lane has two. Largest scores are times log2(e); the sums of
// exponentials are of the keys that this lane has.
template <int kWidth>
struct Progress {
    float largest[2] = {-INFINITY, -INFINITY};
    float exponentials[2] = {};
    float sums[kWidth / 8][4] = {};
};

// Keys that a warp takes at a time: fewer need more sums to be scaled, more need more registers.
constexpr int kPortionStrips = 2;
constexpr int kPortion = kPortionStrips * kStrip;
using Scores = float[kPortion / 8][4];

template <int kWidth>
__device__ __forceinline__ void score(Scores& scores, const Bf16* queries, const Bf16* keys, int strips) {
#pragma unroll
    for (int n = 0; n < kPortion / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) scores[n][i] = 0.0F;
    }
#pragma unroll
    for (int k = 0; k < kWidth / 16; ++k) {
        const Matrices rows = load_matrices(queries + 16 * k);
#pragma unroll
        for (int b = 0; b < kPortionStrips; ++b) {
            if (b > 0 && b >= strips) break;
            const Matrices m = load_matrices(keys + b * kStrip * padded(kWidth) + 16 * k);
            multiply_add(scores[2 * b], rows, m.word[0], m.word[1]);
            multiply_add(scores[2 * b + 1], rows, m.word[2], m.word[3]);
        }
    }
}

// Scores become exponentials relative to the largest so far; the lane's rows see the keys below `seen`.
template <int kWidth>
__device__ __forceinline__ void exponentiate(Scores& scores, Progress<kWidth>& progress, float scale,
                                             const int (&seen)[2], int pair) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
        float largest = progress.largest[r];
#pragma unroll
        for (int n = 0; n < kPortion / 8; ++n) {
#pragma unroll
            for (int i = 2 * r; i < 2 * r + 2; ++i) {
                const bool sees = 8 * n + 2 * pair + i % 2 < seen[r];
                scores[n][i] = sees ? scores[n][i] * scale : -INFINITY;
                largest = fmaxf(largest, scores[n][i]);
            }
        }
        largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, 1));
        largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, 2));
        const float shrink = power_of_two(progress.largest[r] - largest);  // 0 at first
        progress.largest[r] = largest;
        float sum = progress.exponentials[r] * shrink;
#pragma unroll
        for (int n = 0; n < kPortion / 8; ++n) {
#pragma unroll
            for (int i = 2 * r; i < 2 * r + 2; ++i) {
                scores[n][i] = power_of_two(scores[n][i] - largest);
                sum += scores[n][i];
            }
        }
        progress.exponentials[r] = sum;
#pragma unroll
        for (int n = 0; n < kWidth / 8; ++n) {
            progress.sums[n][2 * r] *= shrink;
            progress.sums[n][2 * r + 1] *= shrink;
        }
    }
}

// The lane's rows are `row` and row + 8 of the tile, the keys those of one word of the mask.
__device__ __forceinline__ void drop(Scores& scores, const Mask& mask, int row, int word, int pair) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
        const unsigned bits = kept_keys(mask, row + 8 * r, word) >> (2 * pair);
#pragma unroll
        for (int n = 0; n < kPortion / 8; ++n) {
            if ((bits >> (8 * n) & 1U) == 0) scores[n][2 * r] = 0.0F;
            if ((bits >> (8 * n) & 2U) == 0) scores[n][2 * r + 1] = 0.0F;
        }
    }
}

template <int kWidth>
__device__ __forceinline__ void add_values(Progress<kWidth>& progress, const Scores& scores, const Bf16* values,
                                           int strips) {
#pragma unroll
    for (int b = 0; b < kPortionStrips; ++b) {
        if (b > 0 && b >= strips) break;
        add_product<kWidth>(progress.sums, operand_of(scores[2 * b], scores[2 * b + 1]),
                            values + b * kStrip * padded(kWidth));
    }
}

// Writes the rows of a warp's strip: `count` of them, from first_row on.
template <int kWidth>
__device__ __forceinline__ void finish(const Operands& at, int head, Progress<kWidth>& progress, int first_row,
                                       int count, Bf16* strip, const Seat& own) {
    float factors[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
        float& sum = progress.exponentials[r];
        sum += __shfl_xor_sync(kAllLanes, sum, 1);
        sum += __shfl_xor_sync(kAllLanes, sum, 2);
        factors[r] = at.draw.scale / sum;
        const int row = own.group + 8 * r;
        if (own.pair == 0 && row < count && at.stats != nullptr) {
            at.stats[std::int64_t{first_row + row} * at.heads + head] = progress.largest[r] * kLn2 + logf(sum);
        }
    }
    store_strip<kWidth>(at.y + first_row * at.y_stride + head * kWidth, at.y_stride, count, strip, padded(kWidth),
                        progress.sums, factors);
}

__device__ __forceinline__ Mask mask_of(const Operands& at, const Share& share, int query_row, int key_row,
                                        void* bits) {
    return {.bits = static_cast<std::uint8_t*>(bits),
            .key = at.draw.threshold == 0 ? 0 : mix_key(*at.draw.random_key, at.draw.site),
            .threshold = at.draw.threshold,
            .first = (std::int64_t{query_row} * at.heads + share.head) * at.key_rows + key_row,
            .step = at.heads * at.key_rows};
}

// Queries [first, first + kBlockRows) of the sequence.
template <int kWidth>
__device__ __forceinline__ void attend_tile(const Operands& at, const Share& share, int first, Bf16* tiles) {
    constexpr int kStride = padded(kWidth);
    Bf16* q_tile = tiles;
    Bf16* k_tile = q_tile + kBlockRows * kStride;
    Bf16* v_tile = k_tile + kBlockRows * kStride;
    const bool causal = at.causal == Causal::kYes;
    const int end = causal ? min(share.keys, first + kBlockRows) : share.keys;
    const int own_first = static_cast<int>(threadIdx.x) / kWarp * kStrip;
    const int own_count = share.queries - first - own_first;  // those of the strip, and more
    const int first_row = share.first_query_row + first;
    Bf16* own_strip = q_tile + own_first * kStride;

    Progress<kWidth> progress;
    begin_tile<kWidth>(q_tile, kStride, at.q, first_row, min(share.queries - first, kBlockRows), share.head);
    for (int key = 0; key < end; key += kBlockRows) {
        const int keys = min(end - key, kBlockRows);
        if (key > 0) __syncthreads();
        begin_tile<kWidth>(k_tile, kStride, at.k, share.first_key_row + key, keys, share.head);
        begin_tile<kWidth>(v_tile, kStride, at.v, share.first_key_row + key, keys, share.head);
        end_copy_group();
        const Mask mask = mask_of(at, share, first_row, share.first_key_row + key, v_tile + kBlockRows * kStride);
        if (own_count > 0 && at.draw.threshold != 0) {
            // Each warp draws for its own queries.
            draw(mask, own_first, own_first + min(own_count, kStrip), keys, thread_anew() % kWarp, kWarp);
            __syncwarp();
        }
        wait_for_copies<0>();
        __syncthreads();
        if (own_count <= 0) continue;
        const int ahead = causal ? first - key + own_first : kBlockRows;
        const int strips = strips_of(min(ahead + kStrip, keys));  // that any query of the warp sees
#pragma unroll 1
        for (int b = 0; b < strips; b += kPortionStrips) {
            const Seat own = seat();
            Scores scores;
            score<kWidth>(scores, down_first(own_strip, kStride, own.lane),
                          across_first(k_tile + b * kStrip * kStride, kStride, own.lane), strips - b);
            const int seen = min(ahead + own.group + 1, keys) - b * kStrip;
            const int seen_below = min(ahead + own.group + 9, keys) - b * kStrip;
            exponentiate<kWidth>(scores, progress, at.scale * kLog2E, {seen, seen_below}, own.pair);
            if (at.draw.threshold != 0) drop(scores, mask, own_first + own.group, b / kPortionStrips, own.pair);
            add_values<kWidth>(progress, scores, down_first(v_tile + b * kStrip * kStride, kStride, own.lane),
                               strips - b);
        }
    }
    if (own_count > 0) finish<kWidth>(at, share.head, progress, first_row + own_first, own_count, own_strip, seat());
}

constexpr int blocks_per_multiprocessor(int width) { return width <= 64 ? 5 : 3; }

// Block (head and sequence, tiles of queries).
template <int kWidth>
__global__ void __launch_bounds__(kStripThreads, blocks_per_multiprocessor(kWidth))
    tensor_core_attention_forward_kernel(Operands at) {
    const Share share = share_of(at.sequences, at.heads);
    auto* tiles = reinterpret_cast<Bf16*>(launch_shared());
    const int step = static_cast<int>(gridDim.y) * kBlockRows;
    for (int first = static_cast<int>(blockIdx.y) * kBlockRows; first < share.queries; first += step) {
        attend_tile<kWidth>(at, share, first, tiles);
        __syncthreads();
    }
}

}  // namespace

bool takes_head(DataType type, std::int64_t width) {
    return type == DataType::kBf16 && width % kStrip == 0 && width > 0 && width <= kMaxTensorCoreHeadColumns;
}

cudaError_t tensor_core_attention_forward(const Launch& launch, const Tensor& y, const Tensor& stats,
                                          const Attention& operation) {
    const std::int64_t width = y.columns / operation.heads;
    const Operands at{.y = y.as<Bf16>(),
                      .stats = stats.as<float>(),
                      .q = rows_of<Bf16>(operation.q),
                      .k = rows_of<Bf16>(operation.k),
                      .v = rows_of<Bf16>(operation.v),
                      .y_stride = y.row_stride,
                      .sequences = {.q_offsets = operation.q_offsets.values.as<std::int32_t>(),
                                    .kv_offsets = operation.kv_offsets.values.as<std::int32_t>()},
                      .draw = draw_of(launch, operation.dropout),
                      .key_rows = operation.k.rows,
                      .heads = static_cast<int>(operation.heads),
                      .scale = operation.scale,
                      .causal = operation.causal};
    const dim3 grid(static_cast<unsigned>(operation.q_offsets.sequences * operation.heads),
                    blocks_of(y.rows, operation.q_offsets));
    return with_head_width(width, [&](auto head_width) {
        constexpr int kWidth = decltype(head_width)::kValue;
        constexpr std::size_t kBytes = 3 * kBlockRows * padded(kWidth) * sizeof(Bf16) + kBlockRows * kMaskBytes;
        return launch_kernel(launch.stream, {grid, kStripThreads, kBytes}, tensor_core_attention_forward_kernel<kWidth>,
                             at);
    });
}

}  // namespace duologue::cuda
