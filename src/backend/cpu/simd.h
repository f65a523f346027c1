// Eight floats at a time: AVX2 loads, stores and arithmetic for f32 and bf16 rows. Only for sources built with AVX2.
#pragma once

#include <immintrin.h>

#include <bit>
#include <cstdint>
#include <cstring>

#include "duologue/core/bfloat16.h"
#include "duologue/core/tensor.h"

namespace duologue::cpu {

constexpr std::int64_t kLanes = 8;

struct F8 {
    __m256 v;
};

inline F8 broadcast(float x) { return {_mm256_set1_ps(x)}; }
inline F8 zeros() { return {_mm256_setzero_ps()}; }
inline F8 operator+(F8 a, F8 b) { return {_mm256_add_ps(a.v, b.v)}; }
inline F8 operator-(F8 a, F8 b) { return {_mm256_sub_ps(a.v, b.v)}; }
inline F8 operator*(F8 a, F8 b) { return {_mm256_mul_ps(a.v, b.v)}; }
inline F8 operator/(F8 a, F8 b) { return {_mm256_div_ps(a.v, b.v)}; }
inline F8 max(F8 a, F8 b) { return {_mm256_max_ps(a.v, b.v)}; }
inline F8 sqrt(F8 a) { return {_mm256_sqrt_ps(a.v)}; }
/// a * b + c, rounded once.
inline F8 multiply_add(F8 a, F8 b, F8 c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }

/// How many lanes of a vector belong to the row: all of them, or the first few at its end.
struct AllLanes {};
struct FirstLanes {
    std::int64_t count;  // 1..7
};

inline F8 load(const float* p, AllLanes = {}) { return {_mm256_loadu_ps(p)}; }
inline F8 load(const Bfloat16* p, AllLanes = {}) {
    const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16))};
}
/// The remaining lanes are 0.
template <class T>
F8 load(const T* p, FirstLanes lanes) {
    T whole[kLanes] = {};
    std::memcpy(whole, p, static_cast<std::size_t>(lanes.count) * sizeof(T));
    return load(whole);
}

/// Eight bfloat16 bit patterns, rounded to nearest even as Bfloat16 does, each in the upper half of its lane.
inline __m256i rounded_upper_halves(F8 x) {
    const __m256i bits = _mm256_castps_si256(x.v);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256 is_nan = _mm256_cmp_ps(x.v, x.v, _CMP_UNORD_Q);
    return _mm256_blendv_epi8(rounded, quiet, _mm256_castps_si256(is_nan));
}

/// Stores and returns what a later load will see.
inline F8 store(float* p, F8 x, AllLanes = {}) {
    _mm256_storeu_ps(p, x.v);
    return x;
}
inline F8 store(Bfloat16* p, F8 x, AllLanes = {}) {
    const __m256i upper = rounded_upper_halves(x);
    const __m256i halves = _mm256_srli_epi32(upper, 16);
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(halves, halves), 0x08);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(packed));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(halves, 16))};
}
/// Lanes past the row come back as 0, so that sums over the result stay right.
template <class T>
F8 store(T* p, F8 x, FirstLanes lanes) {
    T whole[kLanes];
    store(whole, x);
    std::memcpy(p, whole, static_cast<std::size_t>(lanes.count) * sizeof(T));
    return load(whole, lanes);
}

/// `x` with the lanes past the row set to `fill`.
inline F8 keep_lanes(F8 x, AllLanes, float) { return x; }
inline F8 keep_lanes(F8 x, FirstLanes lanes, float fill) {
    float whole[kLanes];
    store(whole, x);
    for (std::int64_t i = lanes.count; i < kLanes; ++i) whole[i] = fill;
    return load(whole);
}

/// body(index of the first element, lanes) over a row of `count`.
template <class Body>
inline void for_each_vector(std::int64_t count, Body&& body) {
    std::int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes) body(i, AllLanes{});
    if (i < count) body(i, FirstLanes{count - i});
}

/// The sum of the lanes in a fixed order.
inline float sum_lanes(F8 x) {
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(x.v), _mm256_extractf128_ps(x.v, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_shuffle_ps(half, half, 1)));
}
inline float max_lane(F8 x) {
    __m128 half = _mm_max_ps(_mm256_castps256_ps128(x.v), _mm256_extractf128_ps(x.v, 1));
    half = _mm_max_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_max_ss(half, _mm_shuffle_ps(half, half, 1)));
}

/// e^x to about 1 ulp for x <= 88; below -87.3 (where the result would be subnormal) exactly 0. NaN stays NaN.
/// x = n ln 2 + r with |r| <= ln 2 / 2, e^r by its Taylor polynomial of degree 7 (remainder below 6e-9).
inline F8 exp(F8 x) {
    const __m256 underflow = _mm256_cmp_ps(x.v, _mm256_set1_ps(-87.33654F), _CMP_LT_OQ);
    const F8 bounded = {_mm256_min_ps(_mm256_set1_ps(88.72283F), x.v)};
    const F8 n = {_mm256_round_ps(_mm256_mul_ps(bounded.v, _mm256_set1_ps(1.44269504F)),
                                  _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
    F8 r = multiply_add(n, broadcast(-0.693359375F), bounded);  // ln 2 in two parts, the first exact in few bits
    r = multiply_add(n, broadcast(2.12194440e-4F), r);
    F8 p = broadcast(1.0F / 5040.0F);
    p = multiply_add(p, r, broadcast(1.0F / 720.0F));
    p = multiply_add(p, r, broadcast(1.0F / 120.0F));
    p = multiply_add(p, r, broadcast(1.0F / 24.0F));
    p = multiply_add(p, r, broadcast(1.0F / 6.0F));
    p = multiply_add(p, r, broadcast(0.5F));
    p = multiply_add(p, r, broadcast(1.0F));
    p = multiply_add(p, r, broadcast(1.0F));
    // 2^n in two factors, because n = 128 alone does not fit an exponent.
    const __m256i whole = _mm256_cvtps_epi32(n.v);
    const __m256i half = _mm256_srai_epi32(whole, 1);
    const __m256i rest = _mm256_sub_epi32(whole, half);
    const __m256i bias = _mm256_set1_epi32(127);
    const F8 a = {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23))};
    const F8 b = {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23))};
    return {_mm256_andnot_ps(underflow, (p * a * b).v)};
}

/// body(T{}) with T the element type of activations.
template <class Body>
inline void with_element_type(DataType type, Body&& body) {
    if (type == DataType::kBf16) {
        body(Bfloat16{});
    } else {
        body(float{});
    }
}

}  // namespace duologue::cpu
