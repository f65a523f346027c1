// Residual, dropout and layer norm in one pass over memory; backward sums gamma's and beta's gradients in fixed order.
#include "backend/cuda/launch.cuh"

namespace duologue::cuda {

namespace {

// A row belongs to a group of blockDim.x threads (whole warps), blockDim.y rows to a block. A thread keeps kOctets
// octets of its row in registers, blockDim.x octets apart.
constexpr int kOctets = 2;
constexpr int kBlockThreads = 128;  // of a block whose rows have one warp each
constexpr int kMaxGroupThreads = 256;
constexpr int kMaxGroupWarps = kMaxGroupThreads / kWarp;
static_assert(kMaxNormColumns == kMaxGroupThreads * kOctets * kOctet);
constexpr int kBackwardBlocksPerMultiprocessor = 3;

struct Columns {
    std::int64_t first;
    std::int64_t count;  // from `first` to the end of the row; may be 0 or less
};

__device__ __forceinline__ Columns columns_of(int octet, std::int64_t width) {
    const std::int64_t first = (static_cast<std::int64_t>(octet) * blockDim.x + threadIdx.x) * kOctet;
    return {.first = first, .count = width - first};
}

// The sum over the group that this thread belongs to; the same order everywhere. `shared` holds kMaxGroupWarps floats.
__device__ __forceinline__ float group_sum(float value, float* shared) {
    value = warp_sum(value);
    if (blockDim.x == kWarp) return value;
    const int warps = static_cast<int>(blockDim.x) / kWarp;
    const int warp = static_cast<int>(threadIdx.x) / kWarp;
    __syncthreads();  // the last sum has been read by all
    if (threadIdx.x % kWarp == 0) shared[warp] = value;
    __syncthreads();
    float total = 0.0F;
    for (int i = 0; i < warps; ++i) total += shared[i];
    return total;
}

template <class T>
struct ForwardOperands {
    T* sum;
    T* y;
    float* mean;
    float* rstd;
    const T* x;
    const T* delta;
    const T* gamma;
    const T* beta;
    DropoutDraw draw;
    float epsilon;
    std::int64_t rows;
    std::int64_t width;
};

// x + dropout(delta) as it is written, that is, rounded to T.
template <Access kAccess, class T>
__device__ __forceinline__ Octet residual_octet(const ForwardOperands<T>& at, const DropoutMask& mask,
                                                std::int64_t index, std::int64_t count) {
    Octet value = load_octet<kAccess>(at.x + index, count);
    if (at.delta == nullptr) return value;
    const Octet delta = load_octet<kAccess>(at.delta + index, count);
    const Octet factors = dropout_factors<kAccess>(mask, index);
#pragma unroll
    for (int j = 0; j < kOctet; ++j) value.v[j] = rounded<T>(fmaf(factors.v[j], delta.v[j], value.v[j]));
    store_octet<kAccess>(at.sum + index, value, count);
    return value;
}

template <Access kAccess, class T>
__global__ void __launch_bounds__(kMaxGroupThreads) residual_norm_forward_kernel(ForwardOperands<T> at) {
    __shared__ float shared[kMaxGroupWarps];
    const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
    if (row >= at.rows) return;  // a whole warp, and with groups of several warps the whole block
    const DropoutMask mask = mask_of(at.draw);
    Octet values[kOctets];
    float partial = 0.0F;
#pragma unroll
    for (int k = 0; k < kOctets; ++k) {
        const Columns columns = columns_of(k, at.width);
        values[k] = octet_of(0.0F);
        if (columns.count <= 0) continue;
        values[k] = residual_octet<kAccess>(at, mask, row * at.width + columns.first, columns.count);
#pragma unroll
        for (int j = 0; j < kOctet; ++j) partial += values[k].v[j];
    }
    const float mean = group_sum(partial, shared) / static_cast<float>(at.width);
    partial = 0.0F;
#pragma unroll
    for (int k = 0; k < kOctets; ++k) {
        const Columns columns = columns_of(k, at.width);
#pragma unroll
        for (int j = 0; j < kOctet; ++j) {
            const float centred = j < columns.count ? values[k].v[j] - mean : 0.0F;
            partial = fmaf(centred, centred, partial);
        }
    }
    const float variance = group_sum(partial, shared) / static_cast<float>(at.width);
    const float rstd = 1.0F / sqrtf(variance + at.epsilon);
    if (threadIdx.x == 0 && at.mean != nullptr) {
        at.mean[row] = mean;
        at.rstd[row] = rstd;
    }
#pragma unroll
    for (int k = 0; k < kOctets; ++k) {
        const Columns columns = columns_of(k, at.width);
        if (columns.count <= 0) continue;
        const Octet gamma = load_octet<kAccess>(at.gamma + columns.first, columns.count);
        Octet result = load_octet<kAccess>(at.beta + columns.first, columns.count);
#pragma unroll
        for (int j = 0; j < kOctet; ++j) {
            result.v[j] = fmaf((values[k].v[j] - mean) * rstd, gamma.v[j], result.v[j]);
        }
        store_octet<kAccess>(at.y + row * at.width + columns.first, result, columns.count);
    }
}

template <class T>
struct BackwardOperands {
    T* dx;
    T* ddelta;
    float* partial_sums;  // [blocks][kSums][width]: every block's sums of dgamma, of dbeta, of ddelta
    const T* dy;
    const T* branch;
    const T* above;
    const T* sum;
    const float* mean;
    const float* rstd;
    const T* gamma;
    DropoutDraw draw;
    std::int64_t rows;
    std::int64_t width;
};

// This thread's share of the sums over rows, in the order in which they are written.
constexpr int kSums = 3;
struct ColumnSums {
    Octet dgamma[kOctets];
    Octet dbeta[kOctets];
    Octet ddelta[kOctets];
};

// dsum of one octet: rstd (g - mean(g) - h mean(g h)) + above, with g = dy gamma and h = (sum - mean) rstd.
template <Access kAccess, class T>
__device__ __forceinline__ void write_gradients(const BackwardOperands<T>& at, const DropoutMask& mask,
                                                std::int64_t index, std::int64_t count, Octet dsum, Octet& ddelta_sum) {
    if (at.above != nullptr) {
        const Octet above = load_octet<kAccess>(at.above + index, count);
#pragma unroll
        for (int j = 0; j < kOctet; ++j) dsum.v[j] += above.v[j];
    }
    store_octet<kAccess>(at.dx + index, dsum, count);
    if (at.ddelta == nullptr) return;
    const Octet factors = dropout_factors<kAccess>(mask, index);
#pragma unroll
    for (int j = 0; j < kOctet; ++j) {
        dsum.v[j] *= factors.v[j];
        ddelta_sum.v[j] += dsum.v[j];
    }
    store_octet<kAccess>(at.ddelta + index, dsum, count);
}

template <Access kAccess, class T>
__device__ __forceinline__ Octet load_dy(const BackwardOperands<T>& at, std::int64_t index, std::int64_t count) {
    Octet dy = load_octet<kAccess>(at.dy + index, count);
    if (at.branch == nullptr) return dy;
    const Octet branch = load_octet<kAccess>(at.branch + index, count);
#pragma unroll
    for (int j = 0; j < kOctet; ++j) dy.v[j] += branch.v[j];
    return dy;
}

// Writes this block's sums of one kind: those of its rows' groups, one group after the other, in shared memory [width].
__device__ __forceinline__ void write_partial_sums(float* to, const Octet (&sums)[kOctets], float* shared,
                                                   std::int64_t width) {
    for (unsigned group = 0; group < blockDim.y; ++group) {
        __syncthreads();
        if (threadIdx.y != group) continue;
#pragma unroll
        for (int k = 0; k < kOctets; ++k) {
            const Columns columns = columns_of(k, width);
#pragma unroll
            for (int j = 0; j < kOctet; ++j) {
                if (j >= columns.count) continue;
                const std::int64_t column = columns.first + j;
                shared[column] = sums[k].v[j] + (group == 0 ? 0.0F : shared[column]);
            }
        }
    }
    __syncthreads();
    const int thread = static_cast<int>(threadIdx.y * blockDim.x + threadIdx.x);
    for (std::int64_t i = thread; i < width; i += blockDim.x * blockDim.y) to[i] = shared[i];
}

template <Access kAccess, class T>
__global__ void __launch_bounds__(kMaxGroupThreads) residual_norm_backward_kernel(BackwardOperands<T> at) {
    float* column_sums = launch_shared();
    __shared__ float shared[kMaxGroupWarps];
    const DropoutMask mask = mask_of(at.draw);
    ColumnSums sums;
#pragma unroll
    for (int k = 0; k < kOctets; ++k) sums.dgamma[k] = sums.dbeta[k] = sums.ddelta[k] = octet_of(0.0F);
    const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * blockDim.y;
    for (std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * blockDim.y + threadIdx.y; row < at.rows;
         row += stride) {
        const float mean = at.mean[row];
        const float rstd = at.rstd[row];
        Octet g[kOctets];
        Octet h[kOctets];
        float sum_g = 0.0F;
        float sum_gh = 0.0F;
#pragma unroll
        for (int k = 0; k < kOctets; ++k) {
            const Columns columns = columns_of(k, at.width);
            if (columns.count <= 0) continue;
            const std::int64_t index = row * at.width + columns.first;
            g[k] = load_dy<kAccess>(at, index, columns.count);
            h[k] = load_octet<kAccess>(at.sum + index, columns.count);
            const Octet gamma = load_octet<kAccess>(at.gamma + columns.first, columns.count);
#pragma unroll
            for (int j = 0; j < kOctet; ++j) {
                h[k].v[j] = (h[k].v[j] - mean) * rstd;
                sums.dgamma[k].v[j] = fmaf(g[k].v[j], h[k].v[j], sums.dgamma[k].v[j]);
                sums.dbeta[k].v[j] += g[k].v[j];
                g[k].v[j] *= gamma.v[j];  // 0 past the row's end, where h counts for nothing
                sum_g += g[k].v[j];
                sum_gh = fmaf(g[k].v[j], h[k].v[j], sum_gh);
            }
        }
        const float mean_g = group_sum(sum_g, shared) / static_cast<float>(at.width);
        const float mean_gh = group_sum(sum_gh, shared) / static_cast<float>(at.width);
#pragma unroll
        for (int k = 0; k < kOctets; ++k) {
            const Columns columns = columns_of(k, at.width);
            if (columns.count <= 0) continue;
#pragma unroll
            for (int j = 0; j < kOctet; ++j) g[k].v[j] = rstd * (g[k].v[j] - mean_g - h[k].v[j] * mean_gh);
            write_gradients<kAccess>(at, mask, row * at.width + columns.first, columns.count, g[k], sums.ddelta[k]);
        }
    }
    float* to = at.partial_sums + static_cast<std::int64_t>(blockIdx.x) * kSums * at.width;
    write_partial_sums(to, sums.dgamma, column_sums, at.width);
    write_partial_sums(to + at.width, sums.dbeta, column_sums, at.width);
    write_partial_sums(to + 2 * at.width, sums.ddelta, column_sums, at.width);
}

// Each total [width] += the blocks' sums, in the blocks' order. A total may be null.
struct Totals {
    float* of[kSums];
};
__global__ void __launch_bounds__(kBlockThreads)
    sum_blocks_kernel(Totals totals, const float* partials, int blocks, std::int64_t width) {
    const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kBlockThreads + threadIdx.x;
    if (i >= width) return;
    float* to = blockIdx.y == 0 ? totals.of[0] : blockIdx.y == 1 ? totals.of[1] : totals.of[2];
    if (to == nullptr) return;
    float total = 0.0F;
    for (int block = 0; block < blocks; ++block) total += partials[(block * kSums + blockIdx.y) * width + i];
    to[i] += total;
}

// Threads of a row's group, rows of a block.
dim3 block_of(std::int64_t width) {
    const auto warps = static_cast<unsigned>(divided_up(width, kOctets * kOctet * kWarp));
    return warps == 1 ? dim3(kWarp, kBlockThreads / kWarp) : dim3(warps * kWarp, 1);
}

}  // namespace

cudaError_t residual_norm_forward(const Launch& launch, const Tensor& sum, const Tensor& y, const Tensor& mean,
                                  const Tensor& rstd, const ResidualNorm& operation) {
    const auto& [x, delta, dropout, gamma, beta, epsilon] = operation;
    if (x.rows == 0) return cudaSuccess;
    return with_access(access_of({sum, y, x, delta, gamma, beta}), [&](auto access) {
        return with_type(x.type, [&](auto element) {
            using T = decltype(element);
            const ForwardOperands<T> at{.sum = sum.as<T>(),
                                        .y = y.as<T>(),
                                        .mean = mean.as<float>(),
                                        .rstd = rstd.as<float>(),
                                        .x = x.as<T>(),
                                        .delta = delta.as<T>(),
                                        .gamma = gamma.as<T>(),
                                        .beta = beta.as<T>(),
                                        .draw = draw_of(launch, dropout),
                                        .epsilon = epsilon,
                                        .rows = x.rows,
                                        .width = x.columns};
            const dim3 block = block_of(x.columns);
            const auto grid = static_cast<unsigned>(divided_up(x.rows, block.y));
            return launch_kernel(launch.stream, {grid, block},
                                 residual_norm_forward_kernel<decltype(access)::kValue, T>, at);
        });
    });
}

cudaError_t residual_norm_backward(const Launch& launch, const ResidualNormGradients& gradients,
                                   const ResidualNormBackward& operation) {
    const auto& [dx, ddelta, ddelta_sum, dgamma, dbeta] = gradients;
    const auto& [dy, branch, above, sum, mean, rstd, gamma, dropout] = operation;
    if (dy.rows == 0) return cudaSuccess;
    const std::int64_t width = dy.columns;
    const auto most_blocks = launch.workspace.bytes / (kSums * width * static_cast<std::int64_t>(sizeof(float)));
    const Totals totals{dgamma.as<float>(), dbeta.as<float>(), ddelta_sum.as<float>()};
    return with_access(access_of({dx, ddelta, dy, branch, above, sum, gamma}), [&](auto access) {
        return with_type(dy.type, [&](auto element) {
            using T = decltype(element);
            const BackwardOperands<T> at{.dx = dx.as<T>(),
                                         .ddelta = ddelta.as<T>(),
                                         .partial_sums = static_cast<float*>(launch.workspace.data),
                                         .dy = dy.as<T>(),
                                         .branch = branch.as<T>(),
                                         .above = above.as<T>(),
                                         .sum = sum.as<T>(),
                                         .mean = mean.as<float>(),
                                         .rstd = rstd.as<float>(),
                                         .gamma = gamma.as<T>(),
                                         .draw = draw_of(launch, dropout),
                                         .rows = dy.rows,
                                         .width = width};
            const dim3 block = block_of(width);
            const auto shared_bytes = static_cast<std::size_t>(width) * sizeof(float);
            const unsigned grid =
                std::min(grid_for(launch, dy.rows, static_cast<int>(block.y), kBackwardBlocksPerMultiprocessor),
                         static_cast<unsigned>(most_blocks));
            const cudaError_t status = launch_kernel(launch.stream, {grid, block, shared_bytes},
                                                     residual_norm_backward_kernel<decltype(access)::kValue, T>, at);
            if (status != cudaSuccess) return status;
            const dim3 sum_grid(static_cast<unsigned>(divided_up(width, kBlockThreads)), kSums);
            return launch_kernel(launch.stream, {sum_grid, kBlockThreads}, sum_blocks_kernel, totals, at.partial_sums,
                                 static_cast<int>(grid), width);
        });
    });
}

}  // namespace duologue::cuda
