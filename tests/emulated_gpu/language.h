// What CUDA C++ has beyond C++, for kernels that a C++ compiler compiles. Included before everything else in them.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <math.h>

#include <bit>
#include <cstdint>

#include "emulated_gpu/blocks.h"

inline uint3 threadIdx = {};
inline uint3 blockIdx = {};
inline dim3 blockDim;
inline dim3 gridDim;

// A block runs at a time, on one thread of the processor.
#undef __shared__
#define __shared__ static
#undef __launch_bounds__
#define __launch_bounds__(...)

inline void __syncthreads() { emulated_gpu::block_barrier(); }
inline void __syncwarp(unsigned mask = 0xffffffffU) { emulated_gpu::warp_barrier(mask); }

template <class Value>
Value __shfl_sync(unsigned mask, Value value, unsigned source) {
    static_assert(sizeof(Value) == sizeof(std::uint32_t));
    return std::bit_cast<Value>(emulated_gpu::shuffled(mask, std::bit_cast<std::uint32_t>(value), source));
}
template <class Value>
Value __shfl_xor_sync(unsigned mask, Value value, int distance) {
    return __shfl_sync(mask, value, emulated_gpu::lane() ^ static_cast<unsigned>(distance));
}

inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }
inline unsigned __float_as_uint(float value) { return std::bit_cast<unsigned>(value); }

// The low word of the two shifted right by the last five bits of `shift`.
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
    return static_cast<unsigned>((std::uint64_t{high} << 32 | low) >> (shift % 32));
}

template <class Value>
constexpr Value min(Value a, Value b) {
    return b < a ? b : a;
}
template <class Value>
constexpr Value max(Value a, Value b) {
    return a < b ? b : a;
}
