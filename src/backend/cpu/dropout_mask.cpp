// Philox 4x32-10 (Salmon et al. 2011) on four counters per vector, several vectors interleaved to hide the latency.
#include "backend/cpu/dropout_mask.h"

#include <immintrin.h>

#include <algorithm>

#include "duologue/core/random.h"

namespace duologue::cpu {

namespace {

/// Counters in 64-bit lanes of which only the lower halves count: the multiplication ignores the upper ones, so what
/// is left there need not be cleared.
struct Lanes {
    __m256i c0, c1, c2, c3;
};

__m256i same(std::uint32_t word) { return _mm256_set1_epi64x(static_cast<long long>(word)); }

template <int kVectors>
void philox_rounds(Lanes (&state)[kVectors], std::uint64_t key) {
    auto k0 = static_cast<std::uint32_t>(key);
    auto k1 = static_cast<std::uint32_t>(key >> 32);
    const __m256i m0 = same(0xD2511F53U);
    const __m256i m1 = same(0xCD9E8D57U);
    for (int round = 0; round < 10; ++round) {
        const __m256i key0 = same(k0);
        const __m256i key1 = same(k1);
        for (Lanes& s : state) {
            const __m256i p0 = _mm256_mul_epu32(s.c0, m0);
            const __m256i p1 = _mm256_mul_epu32(s.c2, m1);
            s.c0 = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(p1, 32), s.c1), key0);
            s.c2 = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(p0, 32), s.c3), key1);
            s.c1 = p1;
            s.c3 = p0;
        }
        k0 += 0x9E3779B9U;
        k1 += 0xBB67AE85U;
    }
}

/// Eight factors from the eight half-words of one counter.
void store_factors(float* out, __m128i halves, __m128i threshold, __m256 scale) {
    const __m128i keeps = _mm_cmpeq_epi16(_mm_max_epu16(halves, threshold), halves);
    _mm256_storeu_ps(out, _mm256_and_ps(_mm256_castsi256_ps(_mm256_cvtepi16_epi32(keeps)), scale));
}

/// Factors of the 32 * kVectors elements from counter `counter` on.
template <int kVectors>
void generate(float* out, std::uint64_t key, std::uint64_t counter, std::uint32_t threshold, float scale) {
    Lanes state[kVectors];
    for (int i = 0; i < kVectors; ++i) {
        const __m256i first = _mm256_set1_epi64x(static_cast<long long>(counter) + 4 * i);
        const __m256i low = _mm256_add_epi64(first, _mm256_setr_epi64x(0, 1, 2, 3));
        state[i] = {low, _mm256_srli_epi64(low, 32), _mm256_setzero_si256(), _mm256_setzero_si256()};
    }
    philox_rounds(state, key);
    const __m128i limit = _mm_set1_epi16(static_cast<short>(threshold));
    const __m256 factor = _mm256_set1_ps(scale);
    for (int i = 0; i < kVectors; ++i) {
        const Lanes& s = state[i];
        const __m256i words01 = _mm256_blend_epi32(s.c0, _mm256_slli_epi64(s.c1, 32), 0xAA);
        const __m256i words23 = _mm256_blend_epi32(s.c2, _mm256_slli_epi64(s.c3, 32), 0xAA);
        const __m256i even = _mm256_unpacklo_epi64(words01, words23);  // counters 0 and 2
        const __m256i odd = _mm256_unpackhi_epi64(words01, words23);   // counters 1 and 3
        float* group = out + 32 * i;
        store_factors(group, _mm256_castsi256_si128(even), limit, factor);
        store_factors(group + 8, _mm256_castsi256_si128(odd), limit, factor);
        store_factors(group + 16, _mm256_extracti128_si256(even, 1), limit, factor);
        store_factors(group + 24, _mm256_extracti128_si256(odd, 1), limit, factor);
    }
}

}  // namespace

DropoutMask::DropoutMask(const Dropout& dropout, std::uint64_t random_key)
    : key_(mix_key(random_key, dropout.site)),
      threshold_(dropout_threshold(dropout.probability)),
      scale_(dropout_scale(dropout.probability)) {}

void DropoutMask::prepare(float* buffer, std::int64_t count) const {
    if (!active()) std::fill_n(buffer, buffer_floats(count), 1.0F);
}

const float* DropoutMask::factors(float* buffer, std::uint64_t first, std::int64_t count) const {
    if (!active()) return buffer;
    const auto skipped = static_cast<std::int64_t>(first % 8);
    const std::int64_t needed = count + skipped;
    std::uint64_t counter = first / 8;
    float* out = buffer;
    for (; out + 3 * kGroup < buffer + needed; out += 4 * kGroup, counter += 16) {
        generate<4>(out, key_, counter, threshold_, scale_);
    }
    for (; out < buffer + needed; out += kGroup, counter += 4) generate<1>(out, key_, counter, threshold_, scale_);
    return buffer + skipped;
}

}  // namespace duologue::cpu
