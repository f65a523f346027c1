// Our own attention, backward: one kernel for the queries' gradients, one for the keys' and values'; no atomics.
#include "backend/cuda/attention.cuh"

namespace duologue::cuda {

namespace {

// y_i = sum_j f_ij p_ij v_j with p = softmax(s), s_ij = scale q_i k_j: dp_ij = f_ij (dy_i v_j) and
// ds_ij = p_ij (dp_ij - sum_l p_il dp_il), where the last sum is dy_i y_i (Dao et al. 2022, eq. 4).
template <class T>
struct Operands {
    T* dq;
    T* dk;
    T* dv;
    std::int64_t dq_stride;
    std::int64_t dk_stride;
    std::int64_t dv_stride;
    Rows<T> q;
    Rows<T> k;
    Rows<T> v;
    Rows<T> y;
    Rows<T> dy;
    const float* stats;
    float* products;
    Sequences sequences;
    DropoutDraw draw;
    std::int64_t key_rows;
    std::int64_t heads;
    float scale;
    int head_columns;
    Causal causal;
};

template <class T>
__device__ __forceinline__ void load_row(float* to, const Rows<T>& rows, std::int64_t row, std::int64_t first_column,
                                         int lane, int head_columns) {
    for (int c = lane; c < head_columns; c += kWarp) to[c] = to_float(rows.data[row * rows.stride + first_column + c]);
}

// A pair's probability, and the gradient of its score (without the scale).
struct Pair {
    float kept = 0.0F;    // f_ij p_ij
    float dscore = 0.0F;  // ds_ij
};

template <class T>
__device__ __forceinline__ Pair pair_of(const Operands<T>& at, float score, float dot_dy_v, std::int64_t query,
                                        std::int64_t head, std::int64_t key) {
    const std::int64_t statistic = query * at.heads + head;
    const float probability = expf(at.scale * score - at.stats[statistic]);
    const float factor = dropout_factor(at.draw, statistic * at.key_rows + key);
    return {.kept = factor * probability, .dscore = probability * (factor * dot_dy_v - at.products[statistic])};
}

// Block (sequence, head, kTileWarps queries): dq, and products for the other kernel.
template <int kColumns, class T>
__global__ void __launch_bounds__(kTileThreads, 2) query_gradients_kernel(Operands<T> at) {
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
    const std::int64_t seen =
        at.causal == Causal::kYes ? min(keys.begin + (query - queries.begin) + 1, keys.end) : keys.end;

    float* key_tile = shared;
    float* value_tile = key_tile + kTile * tile_stride(at.head_columns);
    float* query_row = value_tile + kTile * tile_stride(at.head_columns) + 2 * warp * at.head_columns;
    float* dy_row = query_row + at.head_columns;
    if (works) {
        load_row(query_row, at.q, query, first_column, lane, at.head_columns);
        load_row(dy_row, at.dy, query, first_column, lane, at.head_columns);
        float product = 0.0F;
        for (int c = lane; c < at.head_columns; c += kWarp) {
            product = fmaf(dy_row[c], to_float(at.y.data[query * at.y.stride + first_column + c]), product);
        }
        product = warp_sum(product);
        if (lane == 0) at.products[query * at.heads + head] = product;
        __syncwarp();
    }
    float sums[kColumns] = {};
    for (std::int64_t first_key = keys.begin; first_key < keys.end; first_key += kTile) {
        __syncthreads();
        load_tile(key_tile, at.k, first_key, keys.end, first_column, at.head_columns);
        load_tile(value_tile, at.v, first_key, keys.end, first_column, at.head_columns);
        __syncthreads();
        if (!works || first_key >= seen) continue;
        const std::int64_t key = first_key + lane;
        Pair pair;
        if (key < seen) {
            pair = pair_of(at, dot(query_row, key_tile, lane, at.head_columns),
                           dot(dy_row, value_tile, lane, at.head_columns), query, head, key);
        }
        add_weighted(sums, pair.dscore, key_tile, lane, at.head_columns);
    }
    if (!works) return;
    store_columns(at.dq + query * at.dq_stride + first_column, sums, at.scale, lane, at.head_columns);
}

// Block (sequence, head, kTileWarps keys): dk and dv.
template <int kColumns, class T>
__global__ void __launch_bounds__(kTileThreads, 2) key_gradients_kernel(Operands<T> at) {
    float* shared = launch_shared();
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    const int warp = static_cast<int>(threadIdx.x) / kWarp;
    const std::int64_t head = blockIdx.y;
    const std::int64_t first_column = head * at.head_columns;
    const Span queries = query_span(at.sequences, blockIdx.x);
    const Span keys = key_span(at.sequences, blockIdx.x);
    const std::int64_t first_key = keys.begin + static_cast<std::int64_t>(blockIdx.z) * kTileWarps;
    if (first_key >= keys.end) return;
    const std::int64_t key = first_key + warp;
    const bool works = key < keys.end;
    // With causal attention key j is seen by the queries from j on.
    const bool causal = at.causal == Causal::kYes;
    const std::int64_t seen_from = causal ? queries.begin + (key - keys.begin) : queries.begin;
    const std::int64_t begin = causal ? queries.begin + (first_key - keys.begin) : queries.begin;

    float* query_tile = shared;
    float* dy_tile = query_tile + kTile * tile_stride(at.head_columns);
    float* key_row = dy_tile + kTile * tile_stride(at.head_columns) + 2 * warp * at.head_columns;
    float* value_row = key_row + at.head_columns;
    if (works) {
        load_row(key_row, at.k, key, first_column, lane, at.head_columns);
        load_row(value_row, at.v, key, first_column, lane, at.head_columns);
        __syncwarp();
    }
    float dk[kColumns] = {};
    float dv[kColumns] = {};
    for (std::int64_t first_query = begin; first_query < queries.end; first_query += kTile) {
        __syncthreads();
        load_tile(query_tile, at.q, first_query, queries.end, first_column, at.head_columns);
        load_tile(dy_tile, at.dy, first_query, queries.end, first_column, at.head_columns);
        __syncthreads();
        if (!works) continue;
        const std::int64_t query = first_query + lane;
        Pair pair;
        if (query >= seen_from && query < queries.end) {
            pair = pair_of(at, dot(key_row, query_tile, lane, at.head_columns),
                           dot(value_row, dy_tile, lane, at.head_columns), query, head, key);
        }
        add_weighted(dk, pair.dscore, query_tile, lane, at.head_columns);
        add_weighted(dv, pair.kept, dy_tile, lane, at.head_columns);
    }
    if (!works) return;
    store_columns(at.dk + key * at.dk_stride + first_column, dk, at.scale, lane, at.head_columns);
    store_columns(at.dv + key * at.dv_stride + first_column, dv, 1.0F, lane, at.head_columns);
}

template <class T>
Operands<T> operands_of(const Launch& launch, const AttentionGradients& gradients, const Attention& operation) {
    return {.dq = gradients.dq.as<T>(),
            .dk = gradients.dk.as<T>(),
            .dv = gradients.dv.as<T>(),
            .dq_stride = gradients.dq.row_stride,
            .dk_stride = gradients.dk.row_stride,
            .dv_stride = gradients.dv.row_stride,
            .q = rows_of<T>(operation.q),
            .k = rows_of<T>(operation.k),
            .v = rows_of<T>(operation.v),
            .y = rows_of<T>(gradients.y),
            .dy = rows_of<T>(gradients.dy),
            .stats = gradients.stats.as<float>(),
            .products = gradients.products,
            .sequences = {.q_offsets = operation.q_offsets.values.as<std::int32_t>(),
                          .kv_offsets = operation.kv_offsets.values.as<std::int32_t>()},
            .draw = draw_of(launch, operation.dropout),
            .key_rows = operation.k.rows,
            .heads = operation.heads,
            .scale = operation.scale,
            .head_columns = static_cast<int>(operation.q.columns / operation.heads),
            .causal = operation.causal};
}

}  // namespace

cudaError_t attention_backward(const Launch& launch, const AttentionGradients& gradients, const Attention& operation) {
    const std::int64_t sequences = operation.q_offsets.sequences;
    if (sequences == 0 || (operation.q.rows == 0 && operation.k.rows == 0)) return cudaSuccess;
    if (takes_head(operation.q.type, operation.q.columns / operation.heads) &&
        access_of({gradients.dq, gradients.dk, gradients.dv, gradients.dy, gradients.y, operation.q, operation.k,
                   operation.v}) == Access::kWide) {
        return tensor_core_attention_backward(launch, gradients, operation);
    }
    return with_type(operation.q.type, [&](auto element) {
        using T = decltype(element);
        const Operands<T> at = operands_of<T>(launch, gradients, operation);
        return with_columns(at.head_columns, [&](auto columns) {
            const auto queries_kernel = query_gradients_kernel<decltype(columns)::value, T>;
            const auto keys_kernel = key_gradients_kernel<decltype(columns)::value, T>;
            const std::size_t bytes = shared_bytes(2, 2, at.head_columns);
            const auto grid_over = [&](std::int64_t max_length) {
                return dim3(static_cast<unsigned>(sequences), static_cast<unsigned>(at.heads),
                            static_cast<unsigned>(divided_up(max_length, kTileWarps)));
            };
            const auto start = [&](auto kernel, std::int64_t max_length) {
                return launch_kernel(launch.stream, {grid_over(max_length), kTileThreads, bytes}, kernel, at);
            };
            if (operation.q.rows > 0) {
                const cudaError_t status = start(queries_kernel, operation.q_offsets.max_length);
                if (status != cudaSuccess) return status;
            }
            return operation.k.rows > 0 ? start(keys_kernel, operation.kv_offsets.max_length) : cudaSuccess;
        });
    });
}

}  // namespace duologue::cuda
