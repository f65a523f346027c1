// Label-smoothed cross-entropy; the gradient takes the logits' place. One block per row.
#include <cmath>

#include "backend/cuda/launch.cuh"

namespace duologue::cuda {

namespace {

constexpr int kMaxThreads = 512;  // of a row
constexpr int kMaxWarps = kMaxThreads / kWarp;
constexpr int kBlocksPerMultiprocessor = 3;  // few rows at a time: they stay in L2 until they are read again
constexpr int kBatch = 2;                    // octets that a thread loads at once
static_assert(kMaxWarps <= kWarp, "a warp joins the sums of all warps");

// The largest of some values, the sum of exp(value - largest), and the plain sum.
struct RowSums {
    float largest;
    float exponentials;
    float values;
};

// What is subtracted from values before exp: `largest`, and 0 if all values were -inf, since -inf - -inf is NaN.
__device__ __forceinline__ float shift_of(float largest) { return largest == -INFINITY ? 0.0F : largest; }

__device__ __forceinline__ float shifted_exp(float value, float shift) { return exp2f((value - shift) * kLog2E); }

__device__ __forceinline__ float sum_of(const Octet& octet) {
    const float* v = octet.v;
    return ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
}

__device__ __forceinline__ RowSums warp_joined(const RowSums& sums) {
    const float largest = warp_max(sums.largest);
    const float scale = shifted_exp(sums.largest, shift_of(largest));
    return {.largest = largest, .exponentials = warp_sum(sums.exponentials * scale), .values = warp_sum(sums.values)};
}

// The same in all threads. Ends after a barrier that all threads have come to.
__device__ __forceinline__ RowSums block_joined(RowSums sums) {
    __shared__ RowSums warps[kMaxWarps];
    const unsigned lane = threadIdx.x % kWarp;
    sums = warp_joined(sums);
    if (lane == 0) warps[threadIdx.x / kWarp] = sums;
    __syncthreads();
    const unsigned count = blockDim.x / kWarp;
    RowSums part = warps[min(lane, count - 1)];
    if (lane >= count) part = {.largest = -INFINITY, .exponentials = 0.0F, .values = 0.0F};
    return warp_joined(part);
}

// Adds kOctets octets of logits, `stride` apart; all of them begin inside of the row.
template <int kOctets, Access kAccess, class T>
__device__ __forceinline__ void add_octets(RowSums& sums, const T* row, int first, int stride, int vocabulary) {
    Octet z[kOctets];
#pragma unroll
    for (int k = 0; k < kOctets; ++k) {
        z[k] = load_octet<kAccess>(row + first + k * stride, vocabulary - first - k * stride);
    }
    float largest = sums.largest;
#pragma unroll
    for (int k = 0; k < kOctets; ++k) {
        sums.values += sum_of(z[k]);  // 0 past the end
        if constexpr (kAccess == Access::kNarrow) {
#pragma unroll
            for (int j = 0; j < kOctet; ++j) z[k].v[j] = first + k * stride + j < vocabulary ? z[k].v[j] : -INFINITY;
        }
#pragma unroll
        for (int j = 0; j < kOctet; ++j) largest = fmaxf(largest, z[k].v[j]);
    }
    const float shift = shift_of(largest);
    sums.exponentials *= shifted_exp(sums.largest, shift);
    sums.largest = largest;
#pragma unroll
    for (int k = 0; k < kOctets; ++k) {
#pragma unroll
        for (int j = 0; j < kOctet; ++j) z[k].v[j] = shifted_exp(z[k].v[j], shift);
        sums.exponentials += sum_of(z[k]);
    }
}

template <Access kAccess, class T>
__device__ __forceinline__ RowSums sums_of(const T* row, int vocabulary) {
    RowSums sums{.largest = -INFINITY, .exponentials = 0.0F, .values = 0.0F};
    const int stride = static_cast<int>(blockDim.x) * kOctet;
    int v = static_cast<int>(threadIdx.x) * kOctet;
    for (; v + (kBatch - 1) * stride < vocabulary; v += kBatch * stride) {
        add_octets<kBatch, kAccess>(sums, row, v, stride, vocabulary);
    }
    for (; v < vocabulary; v += stride) add_octets<1, kAccess>(sums, row, v, stride, vocabulary);
    return block_joined(sums);
}

// A probability is exp(z - largest - log_sum): large logits are subtracted first, where that is exact or nearly so.
struct Probabilities {
    float largest;
    float log2_sum;

    __device__ __forceinline__ float of(float z) const { return exp2f(fmaf(z - largest, kLog2E, -log2_sum)); }
};

struct LossOperands {
    float* losses;
    const std::int32_t* targets;
    int vocabulary;
    float smoothing;
    LossGradient gradient;
};

template <Access kAccess, class T>
__device__ __forceinline__ void zero_row(T* row, int vocabulary) {
    const int stride = static_cast<int>(blockDim.x) * kOctet;
    for (int v = static_cast<int>(threadIdx.x) * kOctet; v < vocabulary; v += stride) {
        store_octet<kAccess>(row + v, octet_of(0.0F), vocabulary - v);
    }
}

template <Access kAccess, class T>
__global__ void __launch_bounds__(kMaxThreads, kBlocksPerMultiprocessor)
    cross_entropy_kernel(T* logits, LossOperands at) {
    T* row = logits + static_cast<std::int64_t>(blockIdx.x) * at.vocabulary;
    const std::int32_t target = at.targets[blockIdx.x];
    if (target < 0) {
        if (threadIdx.x == 0) at.losses[blockIdx.x] = 0.0F;
        if (at.gradient == LossGradient::kInPlace) zero_row<kAccess>(row, at.vocabulary);
        return;
    }
    const float uniform = at.smoothing / static_cast<float>(at.vocabulary);
    const float wanted = to_float(row[target]);
    const RowSums sums = sums_of<kAccess>(row, at.vocabulary);  // after its barrier all have read `wanted`
    if (threadIdx.x == 0) {
        at.losses[blockIdx.x] =
            logf(sums.exponentials) + sums.largest - (1.0F - at.smoothing) * wanted - uniform * sums.values;
    }
    if (at.gradient == LossGradient::kNone) return;
    const Probabilities probabilities{.largest = sums.largest, .log2_sum = log2f(sums.exponentials)};
    const int stride = static_cast<int>(blockDim.x) * kOctet;
    for (int v = static_cast<int>(threadIdx.x) * kOctet; v < at.vocabulary; v += stride) {
        const int count = at.vocabulary - v;
        Octet z = load_octet<kAccess>(row + v, count);
#pragma unroll
        for (int j = 0; j < kOctet; ++j) z.v[j] = probabilities.of(z.v[j]) - uniform;
        store_octet<kAccess>(row + v, z, count);
    }
    // The thread that wrote the target's octet.
    if (static_cast<unsigned>(target) / kOctet % blockDim.x == threadIdx.x) {
        row[target] = from_float<T>(probabilities.of(wanted) - (uniform + (1.0F - at.smoothing)));
    }
}

// Whole warps; a thread has several octets where the row is long.
unsigned threads_of(std::int64_t vocabulary) {
    const std::int64_t wanted = rounded_up(divided_up(vocabulary, kOctet), kWarp);
    return static_cast<unsigned>(std::min<std::int64_t>(wanted, kMaxThreads));
}

}  // namespace

cudaError_t cross_entropy(const Launch& launch, const Tensor& losses, const Tensor& logits, const Tensor& targets,
                          float smoothing, LossGradient gradient) {
    if (logits.rows == 0) return cudaSuccess;
    const LossOperands at{.losses = losses.as<float>(),
                          .targets = targets.as<std::int32_t>(),
                          .vocabulary = static_cast<int>(logits.columns),
                          .smoothing = smoothing,
                          .gradient = gradient};
    return with_access(access_of({logits}), [&](auto access) {
        return with_type(logits.type, [&](auto element) {
            using T = decltype(element);
            return launch_kernel(launch.stream, {static_cast<unsigned>(logits.rows), threads_of(logits.columns)},
                                 cross_entropy_kernel<decltype(access)::kValue, T>, logits.as<T>(), at);
        });
    });
}

}  // namespace duologue::cuda
