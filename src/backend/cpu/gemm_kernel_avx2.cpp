// The register tile compiled for AVX2 and FMA, and stand-ins for the tiles of newer processors.
#include <bit>

#include "backend/cpu/gemm_kernel.h"

namespace duologue::cpu {

namespace {

struct Avx2 {
    using Vector [[gnu::vector_size(32), gnu::aligned(4), gnu::may_alias]] = float;
};

constexpr std::int64_t kPairRows = 12;
constexpr std::int64_t kPairColumns = 32;

/// The elements of a pair: of k = 2w and 2w + 1.
float first_of(float pair) { return std::bit_cast<float>(std::bit_cast<std::uint32_t>(pair) << 16); }
float second_of(float pair) { return std::bit_cast<float>(std::bit_cast<std::uint32_t>(pair) & 0xffff0000U); }

void multiply_pairs(std::int64_t words, const float* a, const float* b, float* c, std::int64_t stride, Write write) {
    float sums[kPairRows][kPairColumns] = {};
    for (std::int64_t w = 0; w < words; ++w) {
        const float* columns = b + w * kPairColumns;
        for (std::int64_t r = 0; r < kPairRows; ++r) {
            const float row = a[w * kPairRows + r];
            for (std::int64_t j = 0; j < kPairColumns; ++j) {
                sums[r][j] += first_of(row) * first_of(columns[j]);
                sums[r][j] += second_of(row) * second_of(columns[j]);
            }
        }
    }
    for (std::int64_t r = 0; r < kPairRows; ++r) {
        float* to = c + r * stride;
        for (std::int64_t j = 0; j < kPairColumns; ++j) {
            to[j] = write == Write::kAccumulate ? to[j] + sums[r][j] : sums[r][j];
        }
    }
}

constexpr MicroKernel kPairKernel{kPairRows, kPairColumns, PanelWord::kBf16Pair, &multiply_pairs};

}  // namespace

const MicroKernel& avx2_kernel() { return RegisterTile<Avx2, 6, 2>::kKernel; }

const MicroKernel& wide_kernel_on_avx2() { return RegisterTile<Avx2, 12, 4>::kKernel; }

const MicroKernel& pair_kernel_on_avx2() { return kPairKernel; }

}  // namespace duologue::cpu
