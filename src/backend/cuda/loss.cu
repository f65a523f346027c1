// Label-smoothed cross-entropy; the gradient takes the logits' place. One block per row.
#include <cmath>

#include "backend/cuda/launch.cuh"

namespace duologue::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;

// The largest of some values, the sum of exp(value - largest), and the plain sum.
struct RowSums {
    float largest;
    float exponentials;
    float values;
};

__device__ __forceinline__ RowSums joined(const RowSums& a, const RowSums& b) {
    const float largest = fmaxf(a.largest, b.largest);
    // A part without values has largest -inf and counts 0; -inf - -inf would be NaN.
    const float scale_a = a.largest == largest ? 1.0F : expf(a.largest - largest);
    const float scale_b = b.largest == largest ? 1.0F : expf(b.largest - largest);
    return {.largest = largest,
            .exponentials = a.exponentials * scale_a + b.exponentials * scale_b,
            .values = a.values + b.values};
}

__device__ __forceinline__ RowSums block_joined(RowSums sums) {
    __shared__ RowSums warps[kWarps];
#pragma unroll
    for (int offset = kWarp / 2; offset > 0; offset /= 2) {
        sums = joined(sums, {.largest = __shfl_xor_sync(kAllLanes, sums.largest, offset),
                             .exponentials = __shfl_xor_sync(kAllLanes, sums.exponentials, offset),
                             .values = __shfl_xor_sync(kAllLanes, sums.values, offset)});
    }
    if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = sums;
    __syncthreads();
    RowSums total = warps[0];
    for (int i = 1; i < kWarps; ++i) total = joined(total, warps[i]);
    return total;
}

template <Access kAccess, class T>
__device__ __forceinline__ RowSums sums_of(const T* row, std::int64_t vocabulary) {
    RowSums sums{.largest = -INFINITY, .exponentials = 0.0F, .values = 0.0F};
    for (std::int64_t v = threadIdx.x * kOctet; v < vocabulary; v += kThreads * kOctet) {
        const std::int64_t count = vocabulary - v;
        const Octet z = load_octet<kAccess>(row + v, count);
        RowSums part{.largest = z.v[0], .exponentials = 0.0F, .values = 0.0F};
#pragma unroll
        for (int j = 1; j < kOctet; ++j) part.largest = j < count ? fmaxf(part.largest, z.v[j]) : part.largest;
#pragma unroll
        for (int j = 0; j < kOctet; ++j) {
            part.exponentials += j < count && z.v[j] != -INFINITY ? expf(z.v[j] - part.largest) : 0.0F;
            part.values += z.v[j];  // 0 past the end
        }
        sums = joined(sums, part);
    }
    return block_joined(sums);
}

struct LossOperands {
    float* losses;
    const std::int32_t* targets;
    std::int64_t vocabulary;
    float smoothing;
    LossGradient gradient;
};

template <Access kAccess, class T>
__global__ void __launch_bounds__(kThreads) cross_entropy_kernel(T* logits, LossOperands at) {
    T* row = logits + blockIdx.x * at.vocabulary;
    const std::int32_t target = at.targets[blockIdx.x];
    const bool counted = target >= 0;
    const float uniform = at.smoothing / static_cast<float>(at.vocabulary);
    // A probability is exp(z - largest - log_sum): large logits are subtracted first, where that is exact or nearly so.
    float largest = 0.0F;
    float log_sum = 0.0F;
    if (counted) {
        const float wanted = to_float(row[target]);
        const RowSums sums = sums_of<kAccess>(row, at.vocabulary);  // ends with a barrier: all have read `wanted`
        largest = sums.largest;
        log_sum = logf(sums.exponentials);
        if (threadIdx.x == 0) {
            at.losses[blockIdx.x] = log_sum + largest - (1.0F - at.smoothing) * wanted - uniform * sums.values;
        }
    } else if (threadIdx.x == 0) {
        at.losses[blockIdx.x] = 0.0F;
    }
    if (at.gradient == LossGradient::kNone) return;
    for (std::int64_t v = threadIdx.x * kOctet; v < at.vocabulary; v += kThreads * kOctet) {
        const std::int64_t count = at.vocabulary - v;
        Octet z = octet_of(0.0F);
        if (counted) {
            z = load_octet<kAccess>(row + v, count);
#pragma unroll
            for (int j = 0; j < kOctet; ++j) {
                const float share = uniform + (v + j == target ? 1.0F - at.smoothing : 0.0F);
                z.v[j] = expf(z.v[j] - largest - log_sum) - share;
            }
        }
        store_octet<kAccess>(row + v, z, count);
    }
}

}  // namespace

cudaError_t cross_entropy(const Launch& launch, const Tensor& losses, const Tensor& logits, const Tensor& targets,
                          float smoothing, LossGradient gradient) {
    if (logits.rows == 0) return cudaSuccess;
    const LossOperands at{.losses = losses.as<float>(),
                          .targets = targets.as<std::int32_t>(),
                          .vocabulary = logits.columns,
                          .smoothing = smoothing,
                          .gradient = gradient};
    return with_access(access_of({logits}), [&](auto access) {
        return with_type(logits.type, [&](auto element) {
            using T = decltype(element);
            return launch_kernel(launch.stream, {static_cast<unsigned>(logits.rows), kThreads},
                                 cross_entropy_kernel<decltype(access)::kValue, T>, logits.as<T>(), at);
        });
    });
}

}  // namespace duologue::cuda
