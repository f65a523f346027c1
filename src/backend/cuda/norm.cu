// Residual, dropout and layer norm in one pass over memory; backward sums its columns' gradients in fixed order.
#include "backend/cuda/launch.cuh"

namespace duologue::cuda {

namespace {

// A row belongs to a group of blockDim.x threads (whole warps), blockDim.y rows to a block. A thread keeps kOctets
// octets of its row in registers, blockDim.x octets apart: one, or two of rows that need more than a block's threads.
constexpr int kBlockThreads = 256;
constexpr int kMostOctets = 2;
static_assert(kMaxNormColumns == kBlockThreads * kMostOctets * kOctet);
// Of a multiprocessor at once, in the backward pass: what the sums over rows leave registers for.
constexpr int kBackwardBlocks = 3;
constexpr int kBackwardBlocksOfLongRows = 1;

struct Columns {
    std::int64_t first;
    std::int64_t count;  // from `first` to the end of the row; may be 0 or less
};

__device__ __forceinline__ Columns columns_of(int octet, std::int64_t width) {
    const std::int64_t first = (static_cast<std::int64_t>(octet) * blockDim.x + threadIdx.x) * kOctet;
    return {.first = first, .count = width - first};
}

struct Pair {
    float a;
    float b;
};

// Where the warps of a block leave their sums for the other warps of their group. A sum uses one half and the next the
// other: who writes again to the first has met all others since they read it, at the barrier of the sum in between.
struct WarpSums {
    Pair of[2][kBlockThreads / kWarp];
};

// Sums over the group that this thread belongs to, in the same order everywhere. All threads of the block have to come.
__device__ __forceinline__ Pair group_sums(Pair sums, WarpSums& shared, unsigned half) {
    sums = {.a = warp_sum(sums.a), .b = warp_sum(sums.b)};
    if (blockDim.x == kWarp) return sums;
    const unsigned warps = blockDim.x / kWarp;
    Pair* group = &shared.of[half][threadIdx.y * warps];
    if (threadIdx.x % kWarp == 0) group[threadIdx.x / kWarp] = sums;
    __syncthreads();
    Pair total{};
#pragma unroll 4
    for (unsigned i = 0; i < warps; ++i) {
        total.a += group[i].a;
        total.b += group[i].b;
    }
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

template <int kOctets, Access kAccess, class T>
__global__ void __launch_bounds__(kBlockThreads) residual_norm_forward_kernel(ForwardOperands<T> at) {
    __shared__ WarpSums shared;
    const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
    // A group without a row comes to the barriers with the others.
    const std::int64_t width = row < at.rows ? at.width : 0;
    const DropoutMask mask = mask_of(at.draw);
    Octet values[kOctets];
    float partial = 0.0F;
#pragma unroll
    for (int k = 0; k < kOctets; ++k) {
        const Columns columns = columns_of(k, width);
        values[k] = octet_of(0.0F);
        if (columns.count <= 0) continue;
        values[k] = residual_octet<kAccess>(at, mask, row * width + columns.first, columns.count);
#pragma unroll
        for (int j = 0; j < kOctet; ++j) partial += values[k].v[j];
    }
    const float mean = group_sums({.a = partial, .b = 0.0F}, shared, 0).a / static_cast<float>(at.width);
    partial = 0.0F;
#pragma unroll
    for (int k = 0; k < kOctets; ++k) {
        const Columns columns = columns_of(k, width);
#pragma unroll
        for (int j = 0; j < kOctet; ++j) {
            const float centred = j < columns.count ? values[k].v[j] - mean : 0.0F;
            partial = fmaf(centred, centred, partial);
        }
    }
    const float variance = group_sums({.a = partial, .b = 0.0F}, shared, 1).a / static_cast<float>(at.width);
    const float rstd = 1.0F / sqrtf(variance + at.epsilon);
    if (threadIdx.x == 0 && at.mean != nullptr && row < at.rows) {
        at.mean[row] = mean;
        at.rstd[row] = rstd;
    }
#pragma unroll
    for (int k = 0; k < kOctets; ++k) {
        const Columns columns = columns_of(k, width);
        if (columns.count <= 0) continue;
        const Octet gamma = load_octet<kAccess>(at.gamma + columns.first, columns.count);
        Octet result = load_octet<kAccess>(at.beta + columns.first, columns.count);
#pragma unroll
        for (int j = 0; j < kOctet; ++j) {
            result.v[j] = fmaf((values[k].v[j] - mean) * rstd, gamma.v[j], result.v[j]);
        }
        store_octet<kAccess>(at.y + row * width + columns.first, result, columns.count);
    }
}

constexpr int kSums = 3;  // over rows: of dgamma's terms, of dbeta's, of ddelta

template <class T>
struct BackwardOperands {
    T* dx;
    T* ddelta;
    float* partial_sums;  // [blocks][sums][octets of a thread][kOctet][blockDim.x]
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
    int sums;  // kSums, or 2: not ddelta's
};

template <Access kAccess, class T>
__device__ __forceinline__ void add_octet(Octet& to, const T* from, std::int64_t index, std::int64_t count) {
    if (from == nullptr) return;
    const Octet more = load_octet<kAccess>(from + index, count);
#pragma unroll
    for (int j = 0; j < kOctet; ++j) to.v[j] += more.v[j];
}

// This thread's share of the sums over rows.
template <int kOctets>
struct ColumnSums {
    Octet of[kSums][kOctets];
};

// One octet of a row: g = dy gamma and h = (sum - mean) rstd.
struct RowOctet {
    Octet g;
    Octet h;
    Octet above;
};

template <Access kAccess, class T>
__device__ __forceinline__ RowOctet row_octet(const BackwardOperands<T>& at, std::int64_t index,
                                              const Columns& columns) {
    RowOctet octet{.g = load_octet<kAccess>(at.dy + index, columns.count),
                   .h = load_octet<kAccess>(at.sum + index, columns.count),
                   .above = octet_of(0.0F)};
    add_octet<kAccess>(octet.above, at.above, index, columns.count);
    add_octet<kAccess>(octet.g, at.branch, index, columns.count);
    return octet;
}

// dsum of one octet: rstd (g - mean(g) - h mean(g h)) + above.
template <Access kAccess, class T>
__device__ __forceinline__ void write_gradients(const BackwardOperands<T>& at, const DropoutMask& mask,
                                                std::int64_t index, std::int64_t count, Octet dsum, Octet& ddelta_sum) {
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

// Writes this block's sums: those of its groups, one after the other.
template <int kOctets>
__device__ __forceinline__ void write_partial_sums(float* to, const ColumnSums<kOctets>& sums, int kinds) {
    __shared__ float shared[kOctet][kBlockThreads];
    const unsigned thread = threadIdx.y * blockDim.x + threadIdx.x;
#pragma unroll
    for (int kind = 0; kind < kSums; ++kind) {
        if (kind >= kinds) break;
#pragma unroll
        for (int k = 0; k < kOctets; ++k) {
            __syncthreads();
#pragma unroll
            for (int j = 0; j < kOctet; ++j) shared[j][thread] = sums.of[kind][k].v[j];
            __syncthreads();
            for (unsigned j = threadIdx.y; j < kOctet; j += blockDim.y) {
                float total = 0.0F;
#pragma unroll 4
                for (unsigned group = 0; group < blockDim.y; ++group) {
                    total += shared[j][group * blockDim.x + threadIdx.x];
                }
                to[((kind * kOctets + k) * kOctet + j) * blockDim.x + threadIdx.x] = total;
            }
        }
    }
}

template <int kOctets, Access kAccess, class T>
__global__ void __launch_bounds__(kBlockThreads, kOctets == 1 ? kBackwardBlocks : kBackwardBlocksOfLongRows)
    residual_norm_backward_kernel(BackwardOperands<T> at) {
    __shared__ WarpSums shared;
    const DropoutMask mask = mask_of(at.draw);
    const float scale = 1.0F / static_cast<float>(at.width);
    ColumnSums<kOctets> sums{};
    unsigned half = 0;
    const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * blockDim.y;
    for (std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * blockDim.y; first < at.rows; first += stride) {
        const std::int64_t row = first + threadIdx.y;
        // A group without a row comes to the barrier with the others.
        const std::int64_t width = row < at.rows ? at.width : 0;
        const float mean = width > 0 ? at.mean[row] : 0.0F;
        const float rstd = width > 0 ? at.rstd[row] : 0.0F;
        RowOctet octets[kOctets];
#pragma unroll
        for (int k = 0; k < kOctets; ++k) {
            const Columns columns = columns_of(k, width);
            if (columns.count > 0) octets[k] = row_octet<kAccess>(at, row * at.width + columns.first, columns);
        }
        Pair means{};
#pragma unroll
        for (int k = 0; k < kOctets; ++k) {
            const Columns columns = columns_of(k, width);
            if (columns.count <= 0) continue;
            const Octet gamma = load_octet<kAccess>(at.gamma + columns.first, columns.count);
            auto& [g, h, above] = octets[k];
#pragma unroll
            for (int j = 0; j < kOctet; ++j) {
                h.v[j] = (h.v[j] - mean) * rstd;
                sums.of[0][k].v[j] = fmaf(g.v[j], h.v[j], sums.of[0][k].v[j]);
                sums.of[1][k].v[j] += g.v[j];
                g.v[j] *= gamma.v[j];  // 0 past the row's end, where h counts for nothing
                means.a += g.v[j];
                means.b = fmaf(g.v[j], h.v[j], means.b);
            }
        }
        means = group_sums(means, shared, half);
        half ^= 1U;
        means = {.a = means.a * scale, .b = means.b * scale};
#pragma unroll
        for (int k = 0; k < kOctets; ++k) {
            const Columns columns = columns_of(k, width);
            if (columns.count <= 0) continue;
            auto& [g, h, above] = octets[k];
#pragma unroll
            for (int j = 0; j < kOctet; ++j) {
                g.v[j] = fmaf(rstd, g.v[j] - means.a - h.v[j] * means.b, above.v[j]);
            }
            write_gradients<kAccess>(at, mask, row * at.width + columns.first, columns.count, g, sums.of[2][k]);
        }
    }
    const std::int64_t block_floats = static_cast<std::int64_t>(at.sums) * kOctets * kOctet * blockDim.x;
    write_partial_sums(at.partial_sums + blockIdx.x * block_floats, sums, at.sums);
}

// Each total [width] += the blocks' sums.
struct Totals {
    float* of[kSums];
};
__global__ void __launch_bounds__(kWarp* kSlices)
    sum_blocks_kernel(Totals totals, const float* partials, int blocks, int lanes, std::int64_t width) {
    const int i = static_cast<int>(blockIdx.x) * kWarp + static_cast<int>(threadIdx.x);
    const std::int64_t padded = static_cast<std::int64_t>(gridDim.x) * kWarp;
    const float total = sliced_sum(partials + blockIdx.y * padded + i, blocks, gridDim.y * padded);
    // From a place among [octets of a thread][kOctet][lanes] to the column.
    const int element = i / lanes;
    const int octet = element / kOctet * lanes + i % lanes;
    const int column = octet * kOctet + element % kOctet;
    float* to = blockIdx.y == 0 ? totals.of[0] : blockIdx.y == 1 ? totals.of[1] : totals.of[2];
    if (threadIdx.y == 0 && column < width) to[column] += total;
}

int octets_of(std::int64_t width) { return width > kBlockThreads * kOctet ? 2 : 1; }

// Threads of a row's group, rows of a block.
dim3 block_of(std::int64_t width) {
    const auto lanes = static_cast<unsigned>(rounded_up(divided_up(width, octets_of(width) * kOctet), kWarp));
    return {lanes, kBlockThreads / lanes};
}

// Calls `use(how many octets a thread has)`, a constant.
template <class Use>
cudaError_t with_octets(std::int64_t width, const Use& use) {
    return octets_of(width) == 1 ? use(std::integral_constant<int, 1>{}) : use(std::integral_constant<int, 2>{});
}

template <class T, class Octets, class Access>
cudaError_t run_backward(const Launch& launch, BackwardOperands<T> at, const Totals& totals, Octets octets,
                         Access access) {
    constexpr int kBlocks = octets() == 1 ? kBackwardBlocks : kBackwardBlocksOfLongRows;
    const dim3 block = block_of(at.width);
    at.sums = totals.of[kSums - 1] == nullptr ? kSums - 1 : kSums;
    const std::int64_t padded = std::int64_t{octets()} * kOctet * block.x;
    const auto most_blocks = launch.workspace.bytes / (at.sums * padded * static_cast<std::int64_t>(sizeof(float)));
    const unsigned grid =
        std::min(grid_for(launch, at.rows, static_cast<int>(block.y), kBlocks), static_cast<unsigned>(most_blocks));
    const cudaError_t status =
        launch_kernel(launch.stream, {grid, block}, residual_norm_backward_kernel<octets(), access.kValue, T>, at);
    if (status != cudaSuccess) return status;
    const dim3 sum_grid(static_cast<unsigned>(padded / kWarp), static_cast<unsigned>(at.sums));
    return launch_kernel(launch.stream, {sum_grid, dim3(kWarp, kSlices)}, sum_blocks_kernel, totals, at.partial_sums,
                         static_cast<int>(grid), static_cast<int>(block.x), at.width);
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
            return with_octets(x.columns, [&](auto octets) {
                return launch_kernel(launch.stream, {grid, block},
                                     residual_norm_forward_kernel<octets(), decltype(access)::kValue, T>, at);
            });
        });
    });
}

cudaError_t residual_norm_backward(const Launch& launch, const ResidualNormGradients& gradients,
                                   const ResidualNormBackward& operation) {
    const auto& [dx, ddelta, ddelta_sum, dgamma, dbeta] = gradients;
    const auto& [dy, branch, above, sum, mean, rstd, gamma, dropout] = operation;
    if (dy.rows == 0) return cudaSuccess;
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
                                         .width = dy.columns};
            return with_octets(dy.columns,
                               [&](auto octets) { return run_backward(launch, at, totals, octets, access); });
        });
    });
}

}  // namespace duologue::cuda
