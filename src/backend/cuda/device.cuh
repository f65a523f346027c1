// What the kernels share: eight elements at a time, dropout's factors, sums over warps.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "duologue/core/random.h"

namespace duologue::cuda {

using Bf16 = __nv_bfloat16;

inline constexpr int kWarp = 32;
inline constexpr unsigned kAllLanes = 0xffffffffU;
inline constexpr int kOctet = 8;  // elements that a thread handles together: 16 bytes of bf16, one draw of dropout

inline constexpr float kLog2E = 1.4426950408889634F;  // exp(x) = exp2(x kLog2E)

/// How an octet reaches memory: kWide is 16 bytes at a time and needs alignment; kNarrow checks every element.
enum class Access : std::uint8_t { kWide, kNarrow };

__device__ __forceinline__ float to_float(float value) { return value; }
__device__ __forceinline__ float to_float(Bf16 value) { return __bfloat162float(value); }
template <class T>
__device__ __forceinline__ T from_float(float value) {
    if constexpr (sizeof(T) == sizeof(float)) {
        return value;
    } else {
        return __float2bfloat16_rn(value);
    }
}

struct Octet {
    float v[kOctet];
};

__device__ __forceinline__ Octet octet_of(float value) {
    Octet octet;
#pragma unroll
    for (int i = 0; i < kOctet; ++i) octet.v[i] = value;
    return octet;
}

__device__ __forceinline__ Octet load_wide(const float* from) {
    const float4 low = reinterpret_cast<const float4*>(from)[0];
    const float4 high = reinterpret_cast<const float4*>(from)[1];
    return {{low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w}};
}

__device__ __forceinline__ Octet load_wide(const Bf16* from) {
    const uint4 raw = *reinterpret_cast<const uint4*>(from);
    const unsigned words[4] = {raw.x, raw.y, raw.z, raw.w};
    Octet octet;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        octet.v[2 * i] = __uint_as_float(words[i] << 16);
        octet.v[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000U);
    }
    return octet;
}

__device__ __forceinline__ void store_wide(float* to, const Octet& octet) {
    const float* v = octet.v;
    reinterpret_cast<float4*>(to)[0] = make_float4(v[0], v[1], v[2], v[3]);
    reinterpret_cast<float4*>(to)[1] = make_float4(v[4], v[5], v[6], v[7]);
}

__device__ __forceinline__ unsigned bf16_pair(float low, float high) {
    const unsigned low_bits = __bfloat16_as_ushort(__float2bfloat16_rn(low));
    const unsigned high_bits = __bfloat16_as_ushort(__float2bfloat16_rn(high));
    return low_bits | (high_bits << 16);
}

__device__ __forceinline__ void store_wide(Bf16* to, const Octet& octet) {
    unsigned words[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) words[i] = bf16_pair(octet.v[2 * i], octet.v[2 * i + 1]);
    *reinterpret_cast<uint4*>(to) = make_uint4(words[0], words[1], words[2], words[3]);
}

/// Elements [0, count) of `from` as floats, the rest 0; with kWide `count` is at least kOctet.
template <Access kAccess, class T>
__device__ __forceinline__ Octet load_octet(const T* from, std::int64_t count) {
    if constexpr (kAccess == Access::kWide) {
        return load_wide(from);
    } else {
        Octet octet;
#pragma unroll
        for (int i = 0; i < kOctet; ++i) octet.v[i] = i < count ? to_float(from[i]) : 0.0F;
        return octet;
    }
}

template <Access kAccess, class T>
__device__ __forceinline__ void store_octet(T* to, const Octet& octet, std::int64_t count) {
    if constexpr (kAccess == Access::kWide) {
        store_wide(to, octet);
    } else {
#pragma unroll
        for (int i = 0; i < kOctet; ++i) {
            if (i < count) to[i] = from_float<T>(octet.v[i]);
        }
    }
}

/// 16 bytes of f32: for kernels over f32, so that neighbouring threads access neighbouring bytes in each instruction.
inline constexpr int kQuad = 4;
struct Quad {
    float v[kQuad];
};

/// Elements [0, count) of `from`, the rest 0; with kWide `count` is at least kQuad.
template <Access kAccess>
__device__ __forceinline__ Quad load_quad(const float* from, std::int64_t count) {
    if constexpr (kAccess == Access::kWide) {
        const float4 raw = *reinterpret_cast<const float4*>(from);
        return {{raw.x, raw.y, raw.z, raw.w}};
    } else {
        Quad quad;
#pragma unroll
        for (int i = 0; i < kQuad; ++i) quad.v[i] = i < count ? from[i] : 0.0F;
        return quad;
    }
}

template <Access kAccess, class T>
__device__ __forceinline__ void store_quad(T* to, const Quad& quad, std::int64_t count) {
    if constexpr (kAccess == Access::kNarrow) {
#pragma unroll
        for (int i = 0; i < kQuad; ++i) {
            if (i < count) to[i] = from_float<T>(quad.v[i]);
        }
    } else if constexpr (sizeof(T) == sizeof(float)) {
        *reinterpret_cast<float4*>(to) = make_float4(quad.v[0], quad.v[1], quad.v[2], quad.v[3]);
    } else {
        *reinterpret_cast<uint2*>(to) = make_uint2(bf16_pair(quad.v[0], quad.v[1]), bf16_pair(quad.v[2], quad.v[3]));
    }
}

/// The value as T holds it.
template <class T>
__device__ __forceinline__ float rounded(float value) {
    return to_float(from_float<T>(value));
}

/// Dropout of one call; threshold 0: none.
struct DropoutDraw {
    const std::uint64_t* random_key = nullptr;
    std::uint64_t site = 0;
    std::uint32_t threshold = 0;
    float scale = 1.0F;
};

/// Dropout as a thread works with it: the key of its site, mixed once.
struct DropoutMask {
    std::uint64_t key;
    std::uint32_t threshold;
    float scale;
};

__device__ __forceinline__ DropoutMask mask_of(const DropoutDraw& draw) {
    const std::uint64_t key = draw.threshold == 0 ? 0 : mix_key(*draw.random_key, draw.site);
    return {.key = key, .threshold = draw.threshold, .scale = draw.scale};
}

/// The factor, 0 or the scale, of element `index`: dropout_keeps() without an array that is indexed at run time.
__device__ __forceinline__ float dropout_factor(const DropoutDraw& draw, std::int64_t index) {
    if (draw.threshold == 0) return 1.0F;
    const DropoutMask mask = mask_of(draw);
    const auto element = static_cast<std::uint64_t>(index);
    const auto words = philox(mask.key, element / 8, 0);
    const std::uint32_t low = element % 4 < 2 ? words[0] : words[1];
    const std::uint32_t high = element % 4 < 2 ? words[2] : words[3];
    const std::uint32_t word = element % 8 < 4 ? low : high;
    const std::uint32_t half = element % 2 == 0 ? word & 0xffffU : word >> 16;
    return half >= mask.threshold ? mask.scale : 0.0F;
}

/// The half-words of eight words from number `shift`, below 8, on: the words that hold the first eight of them.
struct DrawnWords {
    std::uint32_t words[kOctet];
};
__device__ __forceinline__ DrawnWords moved(DrawnWords drawn, unsigned shift) {
    std::uint32_t* words = drawn.words;
#pragma unroll
    for (int i = 0; i < 6; ++i) words[i] = (shift & 4U) != 0 ? words[i + 2] : words[i];
#pragma unroll
    for (int i = 0; i < 5; ++i) words[i] = (shift & 2U) != 0 ? words[i + 1] : words[i];
#pragma unroll
    for (int i = 0; i < 4; ++i) words[i] = (shift & 1U) != 0 ? (words[i] >> 16) | (words[i + 1] << 16) : words[i];
    return drawn;
}

/// The factors of elements [index, index + kOctet); with kWide `index` is a multiple of kOctet, and one draw does.
template <Access kAccess>
__device__ __forceinline__ Octet dropout_factors(const DropoutMask& mask, std::int64_t index) {
    if (mask.threshold == 0) return octet_of(1.0F);
    const std::uint64_t octet = static_cast<std::uint64_t>(index) / kOctet;
    const auto first = philox(mask.key, octet, 0);
    DrawnWords drawn{{first[0], first[1], first[2], first[3]}};
    if constexpr (kAccess == Access::kNarrow) {
        const auto second = philox(mask.key, octet + 1, 0);
        drawn = moved({{first[0], first[1], first[2], first[3], second[0], second[1], second[2], second[3]}},
                      static_cast<unsigned>(index % kOctet));
    }
    Octet factors;
#pragma unroll
    for (int i = 0; i < kOctet; ++i) {
        const std::uint32_t half = i % 2 == 0 ? drawn.words[i / 2] & 0xffffU : drawn.words[i / 2] >> 16;
        factors.v[i] = half >= mask.threshold ? mask.scale : 0.0F;
    }
    return factors;
}

/// The same sum, in the same order, in every lane.
__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
    for (int offset = kWarp / 2; offset > 0; offset /= 2) value += __shfl_xor_sync(kAllLanes, value, offset);
    return value;
}

/// The sum of `count` values that lie `stride` apart, in the first row of a block of kWarp columns and kSlices rows: a
/// row takes every kSlices-th value, and the rows' sums are added one after the other. All threads have to come.
inline constexpr int kSlices = 8;
__device__ __forceinline__ float sliced_sum(const float* values, std::int64_t count, std::int64_t stride) {
    __shared__ float slices[kSlices][kWarp];
    float sum = 0.0F;
#pragma unroll 8
    for (std::int64_t i = threadIdx.y; i < count; i += kSlices) sum += values[i * stride];
    slices[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    float total = 0.0F;
#pragma unroll
    for (int slice = 0; slice < kSlices; ++slice) total += slices[slice][threadIdx.x];
    return total;
}

__device__ __forceinline__ float warp_max(float value) {
#pragma unroll
    for (int offset = kWarp / 2; offset > 0; offset /= 2) {
        value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, offset));
    }
    return value;
}

}  // namespace duologue::cuda
