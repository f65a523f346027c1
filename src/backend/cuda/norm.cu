// Residual, dropout and layer norm, forward: one pass over memory.
#include "backend/cuda/norm.cuh"

namespace duologue::cuda {

namespace {

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

}  // namespace duologue::cuda
