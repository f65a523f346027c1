// Sums in a fixed order: partial sums of blocks, then one sum over the blocks.
#include "backend/cuda/launch.cuh"

namespace duologue::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kTotalBlocks = 1024;  // fixed, so that the order does not depend on the card
constexpr int kBatch = 4;           // quads that a thread loads at once
constexpr int kColumnGroups = 8;    // row groups of a column_sum block
constexpr int kColumnTile = kWarp * kOctet;
constexpr int kRowChunk = 256;  // rows of a column_sum block
constexpr int kMaxRowChunks = 1024;

// The sum over the block in thread 0, in a fixed order.
__device__ __forceinline__ float block_sum(float value) {
    __shared__ float warps[kThreads / kWarp];
    value = warp_sum(value);
    if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = value;
    __syncthreads();
    float total = 0.0F;
    for (int i = 0; i < kThreads / kWarp; ++i) total += warps[i];
    return total;
}

template <bool kSquares>
__device__ __forceinline__ void add_terms(Quad& sums, const Quad& values) {
#pragma unroll
    for (int j = 0; j < kQuad; ++j) sums.v[j] += kSquares ? values.v[j] * values.v[j] : values.v[j];
}

// kWide: x begins at a multiple of 16 bytes, whatever its length. Which thread adds which elements, and in which order,
// is the same with kNarrow.
template <Access kAccess, bool kSquares>
__global__ void __launch_bounds__(kThreads)
    partial_sums_kernel(float* partials, const float* x, std::int64_t elements) {
    constexpr std::int64_t kStride = static_cast<std::int64_t>(kTotalBlocks) * kThreads * kQuad;
    Quad sums = {};
    std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kQuad;
    for (; i + (kBatch - 1) * kStride + kQuad <= elements; i += kBatch * kStride) {
        Quad values[kBatch];
#pragma unroll
        for (int k = 0; k < kBatch; ++k) values[k] = load_quad<kAccess>(x + i + k * kStride, kQuad);
#pragma unroll
        for (int k = 0; k < kBatch; ++k) add_terms<kSquares>(sums, values[k]);
    }
    for (; i + kQuad <= elements; i += kStride) add_terms<kSquares>(sums, load_quad<kAccess>(x + i, kQuad));
    if (i < elements) add_terms<kSquares>(sums, load_quad<Access::kNarrow>(x + i, elements - i));
    const float total = block_sum((sums.v[0] + sums.v[1]) + (sums.v[2] + sums.v[3]));
    if (threadIdx.x == 0) partials[blockIdx.x] = total;
}

__global__ void __launch_bounds__(kThreads) total_kernel(float* y, const float* partials, Write write) {
    float value = 0.0F;
    for (int i = static_cast<int>(threadIdx.x); i < kTotalBlocks; i += kThreads) value += partials[i];
    const float total = block_sum(value);
    if (threadIdx.x == 0) *y = total + (write == Write::kAccumulate ? *y : 0.0F);
}

template <bool kSquares>
cudaError_t total(const Launch& launch, const Tensor& y, const Tensor& x, Write write) {
    auto* partials = static_cast<float*>(launch.workspace.data);
    const bool wide = reinterpret_cast<std::uintptr_t>(x.data) % 16 == 0;
    const cudaError_t status = with_access(wide ? Access::kWide : Access::kNarrow, [&](auto access) {
        return launch_kernel(launch.stream, {kTotalBlocks, kThreads},
                             partial_sums_kernel<decltype(access)::kValue, kSquares>, partials, x.as<float>(),
                             x.elements());
    });
    if (status != cudaSuccess) return status;
    return launch_kernel(launch.stream, {1, kThreads}, total_kernel, y.as<float>(), partials, write);
}

// partials[chunk][column] = sum over the chunk's rows. Threads (lane, group): a lane has an octet of columns, the
// groups take the rows in turn.
template <Access kAccess, class T>
__global__ void __launch_bounds__(kThreads)
    column_partials_kernel(float* partials, const T* dy, std::int64_t stride, std::int64_t rows, std::int64_t columns,
                           std::int64_t chunk_rows) {
    __shared__ float shared[kColumnGroups][kColumnTile];
    const std::int64_t first = (static_cast<std::int64_t>(blockIdx.x) * kWarp + threadIdx.x) * kOctet;
    const std::int64_t begin = static_cast<std::int64_t>(blockIdx.y) * chunk_rows;
    const std::int64_t end = min(begin + chunk_rows, rows);
    Octet sums = octet_of(0.0F);
    if (first < columns) {
        for (std::int64_t row = begin + threadIdx.y; row < end; row += kColumnGroups) {
            const Octet values = load_octet<kAccess>(dy + row * stride + first, columns - first);
#pragma unroll
            for (int j = 0; j < kOctet; ++j) sums.v[j] += values.v[j];
        }
    }
#pragma unroll
    for (int j = 0; j < kOctet; ++j) shared[threadIdx.y][j * kWarp + threadIdx.x] = sums.v[j];
    __syncthreads();
    // Thread (lane, group) now finishes column group of the lane's octet.
    float total = 0.0F;
    for (int group = 0; group < kColumnGroups; ++group) total += shared[group][threadIdx.y * kWarp + threadIdx.x];
    const std::int64_t column = first + threadIdx.y;
    if (column < columns) partials[static_cast<std::int64_t>(blockIdx.y) * columns + column] = total;
}
static_assert(kColumnGroups == kOctet, "a block's groups finish the octet's columns");

__global__ void __launch_bounds__(kWarp* kSlices)
    column_total_kernel(float* db, const float* partials, std::int64_t chunks, std::int64_t columns, Write write) {
    const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * kWarp + threadIdx.x;
    const float total = sliced_sum(partials + column, column < columns ? chunks : 0, columns);
    if (threadIdx.y != 0 || column >= columns) return;
    db[column] = total + (write == Write::kAccumulate ? db[column] : 0.0F);
}

}  // namespace

cudaError_t sum(const Launch& launch, const Tensor& y, const Tensor& x, Write write) {
    return total<false>(launch, y, x, write);
}

cudaError_t sum_squares(const Launch& launch, const Tensor& y, const Tensor& x, Write write) {
    return total<true>(launch, y, x, write);
}

cudaError_t column_sum(const Launch& launch, const Tensor& db, const Tensor& dy, Write write) {
    const std::int64_t columns = dy.columns;
    if (columns == 0) return cudaSuccess;
    const auto fitting = launch.workspace.bytes / (columns * static_cast<std::int64_t>(sizeof(float)));
    const std::int64_t most_chunks = std::clamp<std::int64_t>(fitting, 1, kMaxRowChunks);
    const std::int64_t chunk_rows = std::max<std::int64_t>(kRowChunk, divided_up(dy.rows, most_chunks));
    const std::int64_t chunks = divided_up(dy.rows, chunk_rows);
    auto* partials = static_cast<float*>(launch.workspace.data);
    if (chunks > 0) {
        const dim3 grid(static_cast<unsigned>(divided_up(columns, kColumnTile)), static_cast<unsigned>(chunks));
        const cudaError_t status = with_access(access_of({dy}), [&](auto access) {
            return with_type(dy.type, [&](auto element) {
                using T = decltype(element);
                return launch_kernel(launch.stream, {grid, dim3(kWarp, kColumnGroups)},
                                     column_partials_kernel<decltype(access)::kValue, T>, partials, dy.as<T>(),
                                     dy.row_stride, dy.rows, columns, chunk_rows);
            });
        });
        if (status != cudaSuccess) return status;
    }
    const auto blocks = static_cast<unsigned>(divided_up(columns, kWarp));
    return launch_kernel(launch.stream, {blocks, dim3(kWarp, kSlices)}, column_total_kernel, db.as<float>(), partials,
                         chunks, columns, write);
}

}  // namespace duologue::cuda
