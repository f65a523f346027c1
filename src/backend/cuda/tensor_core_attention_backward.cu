// Our own attention of bf16 on tensor cores, backward: one kernel, sums in a fixed order, no memory beside the results.
#include <cmath>

#include "backend/cuda/tensor_core_attention.cuh"

namespace duologue::cuda {

namespace {

// y_i = sum_j f_ij p_ij v_j with p = softmax(s), s_ij = scale q_i k_j: dp_ij = f_ij (dy_i v_j) and
// ds_ij = p_ij (dp_ij - dy_i y_i) (Dao et al. 2022, eq. 4). All is computed transposed, [keys, queries], a strip of
// keys a warp: then p and ds are as they come first operands of dv = p dy and dk = ds q, and only dq = ds k needs what
// other warps have, by way of shared memory.
struct Operands {
    Bf16* dq;
    Bf16* dk;
    Bf16* dv;
    std::int64_t dq_stride;
    std::int64_t dk_stride;
    std::int64_t dv_stride;
    Rows<Bf16> q;
    Rows<Bf16> k;
    Rows<Bf16> v;
    Rows<Bf16> y;
    Rows<Bf16> dy;
    const float* stats;
    Sequences sequences;
    DropoutDraw draw;
    std::int64_t key_rows;
    int heads;
    float scale;
    Causal causal;
};

// A block's shared memory. A warp reads its own strip of values once and puts ds in their place, [keys, queries].
template <int kWidth>
struct Tiles {
    static constexpr int kStride = padded(kWidth);
    static constexpr int kValueStride = padded(kWidth < kBlockRows ? kBlockRows : kWidth);
    static constexpr int kBytes = kBlockRows * ((3 * kStride + kValueStride) * static_cast<int>(sizeof(Bf16)) +
                                                2 * static_cast<int>(sizeof(float)) + kMaskBytes);

    __device__ explicit Tiles(void* memory)
        : q(static_cast<Bf16*>(memory)),
          dy(q + kBlockRows * kStride),
          k(dy + kBlockRows * kStride),
          v(k + kBlockRows * kStride),
          stats(reinterpret_cast<float*>(v + kBlockRows * kValueStride)),
          products(stats + kBlockRows),
          mask(reinterpret_cast<std::uint8_t*>(products + kBlockRows)) {}

    Bf16* q;
    Bf16* dy;
    Bf16* k;
    Bf16* v;
    float* stats;     // times log2(e); of queries that do not exist infinite, so that their probabilities are 0
    float* products;  // dy . y
    std::uint8_t* mask;
};

// One tile of queries against one of keys.
struct Pair {
    int queries;
    int keys;
    int ahead;  // query i sees keys up to i + ahead
    Mask mask;
};

template <int kWidth>
__device__ __forceinline__ void begin_keys(const Operands& at, const Share& share, const Tiles<kWidth>& tiles,
                                           int first) {
    const int count = min(share.keys - first, kBlockRows);
    begin_tile<kWidth>(tiles.k, tiles.kStride, at.k, share.first_key_row + first, count, share.head);
    begin_tile<kWidth>(tiles.v, tiles.kValueStride, at.v, share.first_key_row + first, count, share.head);
}

// Two threads have a row of stats and products.
template <int kWidth>
__device__ __forceinline__ void begin_queries(const Operands& at, const Share& share, const Tiles<kWidth>& tiles,
                                              int first) {
    const int count = min(share.queries - first, kBlockRows);
    const int first_row = share.first_query_row + first;
    begin_tile<kWidth>(tiles.q, tiles.kStride, at.q, first_row, count, share.head);
    begin_tile<kWidth>(tiles.dy, tiles.kStride, at.dy, first_row, count, share.head);
    const int row = static_cast<int>(threadIdx.x) / 2;
    const int half = static_cast<int>(threadIdx.x) % 2;
    float stat = INFINITY;
    float product = 0.0F;
    if (row < count) {
        const std::int64_t query = first_row + row;
        stat = at.stats[query * at.heads + share.head] * kLog2E;
        const int column = share.head * kWidth + half * kOctet;
#pragma unroll
        for (int c = 0; c < kWidth; c += 2 * kOctet) {
            const Octet y = load_wide(at.y.data + query * at.y.stride + column + c);
            const Octet dy = load_wide(at.dy.data + query * at.dy.stride + column + c);
#pragma unroll
            for (int i = 0; i < kOctet; ++i) product = fmaf(y.v[i], dy.v[i], product);
        }
    }
    product += __shfl_xor_sync(kAllLanes, product, 1);
    if (half == 0) {
        tiles.stats[row] = stat;
        tiles.products[row] = product;
    }
}

template <int kWidth>
__device__ __forceinline__ Pair pair_of(const Operands& at, const Share& share, const Tiles<kWidth>& tiles,
                                        int first_query, int first_key) {
    const std::int64_t first_pair = std::int64_t{share.first_query_row + first_query} * at.heads + share.head;
    return {.queries = min(share.queries - first_query, kBlockRows),
            .keys = min(share.keys - first_key, kBlockRows),
            .ahead = at.causal == Causal::kYes ? first_query - first_key : kBlockRows,
            .mask = {.bits = tiles.mask,
                     .key = at.draw.threshold == 0 ? 0 : mix_key(*at.draw.random_key, at.draw.site),
                     .threshold = at.draw.threshold,
                     .first = first_pair * at.key_rows + share.first_key_row + first_key,
                     .step = at.heads * at.key_rows}};
}

// Draws the mask and waits for the tiles.
__device__ __forceinline__ void await(const Pair& pair) {
    end_copy_group();
    if (pair.mask.threshold != 0) {
        draw(pair.mask, 0, pair.queries, pair.keys, static_cast<int>(threadIdx.x), kStripThreads);
    }
    wait_for_copies<0>();
    __syncthreads();
}

// Scores and dy v of the warp's strip of keys and strip `strip` of queries become probabilities after dropout, but for
// its scale, and ds without the scores' scale.
__device__ __forceinline__ void differentiate(float (&scores)[2][4], float (&dscores)[2][4], const Operands& at,
                                              const Pair& pair, const float* stats, const float* products, int strip,
                                              const Seat& own) {
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
        for (int side = 0; side < 2; ++side) {
            const int query = strip * kStrip + 8 * n + 2 * own.pair + side;
            unsigned kept = ~0U;
            if (pair.mask.threshold != 0) {
                kept = kept_keys(pair.mask, query, own.warp / 2) >> (own.warp % 2 * kStrip + own.group);
            }
            const int seen = min(query + pair.ahead + 1, pair.keys) - own.warp * kStrip - own.group;
#pragma unroll
            for (int i = side; i < 4; i += 2) {
                float& score = scores[n][i];
                float& dscore = dscores[n][i];
                const float power = power_of_two(fmaf(score, at.scale * kLog2E, -stats[query]));
                const float probability = i / 2 * 8 < seen ? power : 0.0F;
                const bool keeps = (kept >> (i / 2 * 8) & 1U) != 0;
                score = keeps ? probability : 0.0F;
                dscore = probability * ((keeps ? dscore * at.draw.scale : 0.0F) - products[query]);
            }
        }
    }
}

// Calls `use(strip of queries, p, ds, this thread's seat)` for each that sees the warp's keys.
template <int kWidth, class Use>
__device__ __forceinline__ void for_query_strips(const Operands& at, const Tiles<kWidth>& tiles, const Pair& pair,
                                                 const Use& use) {
    constexpr int kStride = Tiles<kWidth>::kStride;
    constexpr int kValueStride = Tiles<kWidth>::kValueStride;
    const int warp = static_cast<int>(threadIdx.x) / kWarp;
    const Bf16* own_values = down_first(tiles.v + warp * kStrip * kValueStride, kValueStride, seat().lane);
    Matrices values[kWidth / 16];
#pragma unroll
    for (int k = 0; k < kWidth / 16; ++k) values[k] = load_matrices(own_values + 16 * k);
    __syncwarp();
#pragma unroll 1
    for (int strip = max(warp - pair.ahead / kStrip, 0); strip < strips_of(pair.queries); ++strip) {
        const Seat own = seat();
        const Bf16* keys = down_first(tiles.k + own.warp * kStrip * kStride, kStride, own.lane);
        const int corner = strip * kStrip * kStride;
        float scores[2][4] = {};
        float dscores[2][4] = {};
#pragma unroll
        for (int k = 0; k < kWidth / 16; ++k) {
            const Matrices rows = load_matrices(keys + 16 * k);
            const Matrices q = load_matrices(across_first(tiles.q + corner + 16 * k, kStride, own.lane));
            multiply_add(scores[0], rows, q.word[0], q.word[1]);
            multiply_add(scores[1], rows, q.word[2], q.word[3]);
            const Matrices dy = load_matrices(across_first(tiles.dy + corner + 16 * k, kStride, own.lane));
            multiply_add(dscores[0], values[k], dy.word[0], dy.word[1]);
            multiply_add(dscores[1], values[k], dy.word[2], dy.word[3]);
        }
        differentiate(scores, dscores, at, pair, tiles.stats, tiles.products, strip, own);
        use(strip, operand_of(scores[0], scores[1]), operand_of(dscores[0], dscores[1]), own);
    }
}

template <int kWidth>
__device__ __forceinline__ void keep_dscores(const Tiles<kWidth>& tiles, int strip, const Matrices& ds,
                                             const Seat& own) {
    constexpr int kStride = Tiles<kWidth>::kValueStride;
    Bf16* to = tiles.v + (own.warp * kStrip + own.group) * kStride + strip * kStrip + 2 * own.pair;
#pragma unroll
    for (int i = 0; i < 4; ++i) *reinterpret_cast<unsigned*>(to + i % 2 * 8 * kStride + i / 2 * 8) = ds.word[i];
}

// dq[16, kWidth] of the warp's strip of queries += ds k.
template <int kWidth>
__device__ __forceinline__ void add_keys(float (&dq)[kWidth / 8][4], const Tiles<kWidth>& tiles, const Pair& pair,
                                         const Seat& own) {
    constexpr int kStride = Tiles<kWidth>::kStride;
    constexpr int kValueStride = Tiles<kWidth>::kValueStride;
    const int strips = min(strips_of(pair.keys), own.warp + pair.ahead / kStrip + 1);
#pragma unroll 1
    for (int b = 0; b < strips; ++b) {
        const Bf16* corner = tiles.v + b * kStrip * kValueStride + own.warp * kStrip;
        add_product<kWidth>(dq, load_transposed(across_first(corner, kValueStride, own.lane)),
                            down_first(tiles.k + b * kStrip * kStride, kStride, own.lane));
    }
}

template <int kWidth>
__device__ __forceinline__ void store_queries(const Operands& at, const Share& share, const Tiles<kWidth>& tiles,
                                              const float (&dq)[kWidth / 8][4], int first, int warp) {
    const std::int64_t row = share.first_query_row + first;
    store_strip<kWidth>(at.dq + row * at.dq_stride + share.head * kWidth, at.dq_stride, share.queries - first,
                        tiles.q + warp * kStrip * tiles.kStride, tiles.kStride, dq, {at.scale, at.scale});
}

// dk and dv of tiles of keys; dq too where all queries and keys fit into one tile.
template <int kWidth>
__device__ __forceinline__ void key_gradients(const Operands& at, const Share& share, const Tiles<kWidth>& tiles,
                                              bool fits) {
    constexpr int kStride = Tiles<kWidth>::kStride;
    const int warp = static_cast<int>(threadIdx.x) / kWarp;
    const int step = static_cast<int>(gridDim.y) * kBlockRows;
    for (int first_key = static_cast<int>(blockIdx.y) * kBlockRows; first_key < share.keys; first_key += step) {
        float dk[kWidth / 8][4] = {};
        float dv[kWidth / 8][4] = {};
        const int own_first = first_key + warp * kStrip;
        const int begin = at.causal == Causal::kYes ? first_key : 0;
        for (int first_query = begin; first_query < share.queries; first_query += kBlockRows) {
            if (first_query == begin) begin_keys(at, share, tiles, first_key);
            begin_queries(at, share, tiles, first_query);
            const Pair pair = pair_of(at, share, tiles, first_query, first_key);
            await(pair);
            if (own_first < share.keys) {
                for_query_strips(at, tiles, pair,
                                 [&](int strip, const Matrices& p, const Matrices& ds, const Seat& own) {
                                     const int corner = strip * kStrip * kStride;
                                     add_product<kWidth>(dv, p, down_first(tiles.dy + corner, kStride, own.lane));
                                     add_product<kWidth>(dk, ds, down_first(tiles.q + corner, kStride, own.lane));
                                     if (fits) keep_dscores(tiles, strip, ds, own);
                                 });
            }
            __syncthreads();
        }
        if (own_first < share.keys) {
            const std::int64_t row = share.first_key_row + own_first;
            const int count = share.keys - own_first;
            const int column = share.head * kWidth;
            store_strip<kWidth>(at.dv + row * at.dv_stride + column, at.dv_stride, count,
                                tiles.dy + warp * kStrip * kStride, kStride, dv, {at.draw.scale, at.draw.scale});
            store_strip<kWidth>(at.dk + row * at.dk_stride + column, at.dk_stride, count,
                                tiles.q + warp * kStrip * kStride, kStride, dk, {at.scale, at.scale});
        }
        if (fits && warp * kStrip < share.queries) {
            float dq[kWidth / 8][4] = {};
            add_keys(dq, tiles, pair_of(at, share, tiles, 0, 0), seat());
            store_queries(at, share, tiles, dq, warp * kStrip, warp);
        }
        __syncthreads();
    }
}

// dq of tiles of queries, where a sequence is longer than a tile.
template <int kWidth>
__device__ __forceinline__ void query_gradients(const Operands& at, const Share& share, const Tiles<kWidth>& tiles) {
    const int warp = static_cast<int>(threadIdx.x) / kWarp;
    const int step = static_cast<int>(gridDim.y) * kBlockRows;
    for (int first_query = static_cast<int>(blockIdx.y) * kBlockRows; first_query < share.queries;
         first_query += step) {
        float dq[kWidth / 8][4] = {};
        const int own_first = first_query + warp * kStrip;
        const int end = at.causal == Causal::kYes ? min(share.keys, first_query + kBlockRows) : share.keys;
        for (int first_key = 0; first_key < end; first_key += kBlockRows) {
            if (first_key == 0) begin_queries(at, share, tiles, first_query);
            begin_keys(at, share, tiles, first_key);
            const Pair pair = pair_of(at, share, tiles, first_query, first_key);
            await(pair);
            if (warp * kStrip < pair.keys) {
                for_query_strips(at, tiles, pair,
                                 [&](int strip, const Matrices& /*p*/, const Matrices& ds, const Seat& own) {
                                     keep_dscores(tiles, strip, ds, own);
                                 });
            }
            __syncthreads();
            if (own_first < share.queries) add_keys(dq, tiles, pair, seat());
            __syncthreads();
        }
        if (own_first < share.queries) store_queries(at, share, tiles, dq, own_first, warp);
        __syncthreads();
    }
}

constexpr int blocks_per_multiprocessor(int width) { return width <= 64 ? 4 : 2; }

// Block (head and sequence, tiles).
template <int kWidth>
__global__ void __launch_bounds__(kStripThreads, blocks_per_multiprocessor(kWidth))
    tensor_core_attention_backward_kernel(Operands at) {
    const Share share = share_of(at.sequences, at.heads);
    const Tiles<kWidth> tiles(launch_shared());
    const bool fits = share.queries <= kBlockRows && share.keys <= kBlockRows && share.keys > 0;
    key_gradients(at, share, tiles, fits);
    if (!fits) query_gradients(at, share, tiles);
}

}  // namespace

cudaError_t tensor_core_attention_backward(const Launch& launch, const AttentionGradients& gradients,
                                           const Attention& operation) {
    const Operands at{.dq = gradients.dq.as<Bf16>(),
                      .dk = gradients.dk.as<Bf16>(),
                      .dv = gradients.dv.as<Bf16>(),
                      .dq_stride = gradients.dq.row_stride,
                      .dk_stride = gradients.dk.row_stride,
                      .dv_stride = gradients.dv.row_stride,
                      .q = rows_of<Bf16>(operation.q),
                      .k = rows_of<Bf16>(operation.k),
                      .v = rows_of<Bf16>(operation.v),
                      .y = rows_of<Bf16>(gradients.y),
                      .dy = rows_of<Bf16>(gradients.dy),
                      .stats = gradients.stats.as<float>(),
                      .sequences = {.q_offsets = operation.q_offsets.values.as<std::int32_t>(),
                                    .kv_offsets = operation.kv_offsets.values.as<std::int32_t>()},
                      .draw = draw_of(launch, operation.dropout),
                      .key_rows = operation.k.rows,
                      .heads = static_cast<int>(operation.heads),
                      .scale = operation.scale,
                      .causal = operation.causal};
    const dim3 grid(
        static_cast<unsigned>(operation.q_offsets.sequences * operation.heads),
        std::max(blocks_of(operation.q.rows, operation.q_offsets), blocks_of(operation.k.rows, operation.kv_offsets)));
    return with_head_width(operation.q.columns / operation.heads, [&](auto head_width) {
        constexpr int kWidth = decltype(head_width)::kValue;
        return launch_kernel(launch.stream, {grid, kStripThreads, Tiles<kWidth>::kBytes},
                             tensor_core_attention_backward_kernel<kWidth>, at);
    });
}

}  // namespace duologue::cuda
