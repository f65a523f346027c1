// Our own attention, forward and decoding: exact f32 sums, softmax along the way (Milakov and Gimelshein 2018).
#include <cmath>

#include "backend/cuda/attention.cuh"

namespace duologue::cuda {

namespace {

template <class T>
struct Operands {
    T* y;
    float* stats;
    Rows<T> q;
    Rows<T> k;
    Rows<T> v;
    std::int64_t y_stride;
    Sequences sequences;
    DropoutDraw draw;
    std::int64_t key_rows;  // of k: what dropout counts elements by
    std::int64_t heads;
    float scale;
    int head_columns;
    Causal causal;
};

// Softmax's state of one query: its sums so far are relative to exp(largest).
template <int kColumns>
struct Progress {
    float largest = -INFINITY;
    float exponentials = 0.0F;
    float sums[kColumns] = {};
};

template <int kColumns, class T>
__device__ __forceinline__ void see_tile(Progress<kColumns>& progress, const Operands<T>& at, const float* query,
                                         const float* keys, const float* values, bool sees, std::int64_t element,
                                         int lane) {
    const float score = sees ? at.scale * dot(query, keys, lane, at.head_columns) : -INFINITY;
    const float largest = fmaxf(progress.largest, warp_max(score));
    const float shrink = expf(progress.largest - largest);  // 0 at first
    const float weight = sees ? expf(score - largest) : 0.0F;
    progress.exponentials = progress.exponentials * shrink + warp_sum(weight);
    progress.largest = largest;
#pragma unroll
    for (int k = 0; k < kColumns; ++k) progress.sums[k] *= shrink;
    const float kept = sees ? weight * dropout_factor(at.draw, element) : 0.0F;
    add_weighted(progress.sums, kept, values, lane, at.head_columns);
}

// Block (sequence, head, kTileWarps queries); a warp has one query.
template <int kColumns, class T>
__global__ void __launch_bounds__(kTileThreads, 2) attention_forward_kernel(Operands<T> at) {
    float* shared = launch_shared();
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    const int warp = static_cast<int>(threadIdx.x) / kWarp;
    const std::int64_t head = blockIdx.y;
    const std::int64_t first_column = head * at.head_columns;
    const Span queries = query_span(at.sequences, blockIdx.x);
    const Span keys = key_span(at.sequences, blockIdx.x);
    const std::int64_t first_query = queries.begin + static_cast<std::int64_t>(blockIdx.z) * kTileWarps;
    if (first_query >= queries.end) return;
    const std::int64_t query = first_query + warp;
    const bool works = query < queries.end;
    const bool causal = at.causal == Causal::kYes;
    const std::int64_t seen = causal ? min(keys.begin + (query - queries.begin) + 1, keys.end) : keys.end;
    const std::int64_t last_seen =
        causal ? min(keys.begin + (first_query - queries.begin) + kTileWarps, keys.end) : keys.end;

    float* key_tile = shared;
    float* value_tile = key_tile + kTile * tile_stride(at.head_columns);
    float* query_row = value_tile + kTile * tile_stride(at.head_columns) + warp * at.head_columns;
    for (int c = lane; c < at.head_columns; c += kWarp) {
        query_row[c] = works ? to_float(at.q.data[query * at.q.stride + first_column + c]) : 0.0F;
    }
    Progress<kColumns> progress;
    for (std::int64_t first_key = keys.begin; first_key < last_seen; first_key += kTile) {
        __syncthreads();
        load_tile(key_tile, at.k, first_key, keys.end, first_column, at.head_columns);
        load_tile(value_tile, at.v, first_key, keys.end, first_column, at.head_columns);
        __syncthreads();
        if (!works || first_key >= seen) continue;
        const std::int64_t key = first_key + lane;
        const std::int64_t element = (query * at.heads + head) * at.key_rows + key;
        see_tile(progress, at, query_row, key_tile, value_tile, key < seen, element, lane);
    }
    if (!works) return;
    store_columns(at.y + query * at.y_stride + first_column, progress.sums, 1.0F / progress.exponentials, lane,
                  at.head_columns);
    if (lane == 0 && at.stats != nullptr) {
        at.stats[query * at.heads + head] = progress.largest + logf(progress.exponentials);
    }
}

template <class T>
cudaError_t run(const Launch& launch, const Operands<T>& at, std::int64_t sequences, std::int64_t max_queries) {
    return with_columns(at.head_columns, [&](auto columns) {
        const auto kernel = attention_forward_kernel<decltype(columns)::value, T>;
        const std::size_t bytes = shared_bytes(2, 1, at.head_columns);
        const dim3 grid(static_cast<unsigned>(sequences), static_cast<unsigned>(at.heads),
                        static_cast<unsigned>(divided_up(max_queries, kTileWarps)));
        return launch_kernel(launch.stream, {grid, kTileThreads, bytes}, kernel, at);
    });
}

}  // namespace

cudaError_t attention_forward(const Launch& launch, const Tensor& y, const Tensor& stats, const Attention& operation) {
    if (y.rows == 0) return cudaSuccess;
    if (takes_head(y.type, y.columns / operation.heads) &&
        access_of({y, operation.q, operation.k, operation.v}) == Access::kWide) {
        return tensor_core_attention_forward(launch, y, stats, operation);
    }
    return with_type(y.type, [&](auto element) {
        using T = decltype(element);
        const Operands<T> at{.y = y.as<T>(),
                             .stats = stats.as<float>(),
                             .q = rows_of<T>(operation.q),
                             .k = rows_of<T>(operation.k),
                             .v = rows_of<T>(operation.v),
                             .y_stride = y.row_stride,
                             .sequences = {.q_offsets = operation.q_offsets.values.as<std::int32_t>(),
                                           .kv_offsets = operation.kv_offsets.values.as<std::int32_t>()},
                             .draw = draw_of(launch, operation.dropout),
                             .key_rows = operation.k.rows,
                             .heads = operation.heads,
                             .scale = operation.scale,
                             .head_columns = static_cast<int>(y.columns / operation.heads),
                             .causal = operation.causal};
        return run(launch, at, operation.q_offsets.sequences, operation.q_offsets.max_length);
    });
}

cudaError_t attention_decode(const Launch& launch, const Tensor& y, const AttentionDecode& operation) {
    if (y.rows == 0) return cudaSuccess;
    return with_type(y.type, [&](auto element) {
        using T = decltype(element);
        const Operands<T> at{
            .y = y.as<T>(),
            .stats = nullptr,
            .q = rows_of<T>(operation.q),
            .k = rows_of<T>(operation.k_cache),
            .v = rows_of<T>(operation.v_cache),
            .y_stride = y.row_stride,
            .sequences = {.lengths = operation.lengths.as<std::int32_t>(), .capacity = operation.capacity},
            .draw = {},
            .key_rows = operation.k_cache.rows,
            .heads = operation.heads,
            .scale = operation.scale,
            .head_columns = static_cast<int>(y.columns / operation.heads),
            .causal = Causal::kNo};
        return run(launch, at, y.rows, 1);
    });
}

}  // namespace duologue::cuda
