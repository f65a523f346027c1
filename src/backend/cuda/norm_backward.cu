// Residual, dropout and layer norm, backward: one pass over memory, sums over rows in a fixed order.
#include "backend/cuda/norm.cuh"

namespace duologue::cuda {

namespace {

// Of a multiprocessor at once, in the backward pass: what the sums over rows leave registers for.
constexpr int kBackwardBlocks = 3;
constexpr int kBackwardBlocksOfLongRows = 1;
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
        TwoSums means{};
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
