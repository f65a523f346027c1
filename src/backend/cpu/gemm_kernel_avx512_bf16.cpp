// The register tile for pairs of bf16, by the instruction that multiplies and adds them.
#include <immintrin.h>

#include <bit>

#include "backend/cpu/gemm_kernel.h"

namespace duologue::cpu {

namespace {

constexpr int kRows = 12;
constexpr int kVectors = 2;
constexpr int kWidth = 16;

__m512bh pairs_of(__m512 words) { return std::bit_cast<__m512bh>(words); }

void multiply(std::int64_t words, const float* a, const float* b, float* c, std::int64_t stride, Write write) {
    __m512 sums[kRows][kVectors];
    for (auto& row : sums) {
        for (__m512& sum : row) sum = _mm512_setzero_ps();
    }
    for (std::int64_t w = 0; w < words; ++w) {
        __m512bh columns[kVectors];
        for (int v = 0; v < kVectors; ++v) columns[v] = pairs_of(_mm512_loadu_ps(b + (w * kVectors + v) * kWidth));
        for (int r = 0; r < kRows; ++r) {
            const __m512bh row = pairs_of(_mm512_set1_ps(a[w * kRows + r]));
            for (int v = 0; v < kVectors; ++v) sums[r][v] = _mm512_dpbf16_ps(sums[r][v], row, columns[v]);
        }
    }
    for (int r = 0; r < kRows; ++r) {
        for (int v = 0; v < kVectors; ++v) {
            float* to = c + r * stride + v * kWidth;
            const bool adds = write == Write::kAccumulate;
            _mm512_storeu_ps(to, adds ? _mm512_add_ps(_mm512_loadu_ps(to), sums[r][v]) : sums[r][v]);
        }
    }
}

constexpr MicroKernel kKernel{kRows, kVectors* kWidth, PanelWord::kBf16Pair, &multiply};

}  // namespace

const MicroKernel& avx512_bf16_kernel() { return kKernel; }

}  // namespace duologue::cpu
