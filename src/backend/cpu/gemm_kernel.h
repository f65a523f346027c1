// The innermost product of packed panels: what it multiplies, and the register tile for f32, compiled once per
// instruction set.
#pragma once

#include <cstdint>

#include "duologue/backend/backend.h"

namespace duologue::cpu {

/// What a 32-bit word of a packed panel holds. Pairs travel in the bits of a float that nobody computes with.
enum class PanelWord : std::uint8_t {
    kF32,       ///< the element of one k
    kBf16Pair,  ///< the elements of k = 2w (lower half) and 2w + 1, zero past the depth
};

/// Words along a depth.
[[nodiscard]] constexpr std::int64_t words_for(PanelWord word, std::int64_t depth) {
    return word == PanelWord::kBf16Pair ? (depth + 1) / 2 : depth;
}

/// How an operand is packed: panels `width` elements across (6, or a multiple of 4), the depth in words.
struct PanelShape {
    std::int64_t width;
    PanelWord word;
};

/// One register tile of a matrix product (Goto and van de Geijn 2008; Van Zee and van de Geijn 2015).
struct MicroKernel {
    std::int64_t rows;
    std::int64_t columns;
    PanelWord word;
    /// c[rows, columns], whose rows are `stride` floats apart, (+)= the sum over the words w, at least 1, of
    /// a[w, rows] * b[w, columns]. a and b are packed panels: `rows` and `columns` adjacent words per w.
    void (*multiply)(std::int64_t words, const float* a, const float* b, float* c, std::int64_t stride, Write write);

    [[nodiscard]] PanelShape left() const { return {rows, word}; }
    [[nodiscard]] PanelShape right() const { return {columns, word}; }
};

/// `kVectors` vectors beside each other, `kRows` rows: all sums stay in registers. `Isa` names the vector type, and
/// tells the compilations for different instruction sets apart.
template <class Isa, int kRows, int kVectors>
struct RegisterTile {
    using Vector = typename Isa::Vector;
    static constexpr int kWidth = sizeof(Vector) / sizeof(float);

    static void multiply(std::int64_t words, const float* a, const float* b, float* c, std::int64_t stride,
                         Write write) {
        Vector sums[kRows][kVectors];
        const Vector* first = reinterpret_cast<const Vector*>(b);
        for (int r = 0; r < kRows; ++r) {
            for (int v = 0; v < kVectors; ++v) sums[r][v] = a[r] * first[v];
        }
        for (std::int64_t k = 1; k < words; ++k) {
            const Vector* columns = reinterpret_cast<const Vector*>(b + k * kVectors * kWidth);
            for (int r = 0; r < kRows; ++r) {
                for (int v = 0; v < kVectors; ++v) sums[r][v] += a[k * kRows + r] * columns[v];
            }
        }
        for (int r = 0; r < kRows; ++r) {
            Vector* row = reinterpret_cast<Vector*>(c + r * stride);
            for (int v = 0; v < kVectors; ++v) {
                row[v] = write == Write::kAccumulate ? row[v] + sums[r][v] : sums[r][v];
            }
        }
    }
    static constexpr MicroKernel kKernel{kRows, kVectors* kWidth, PanelWord::kF32, &multiply};
};

/// 6 x 16 on AVX2 and FMA: 12 of 16 registers hold sums.
[[nodiscard]] const MicroKernel& avx2_kernel();
/// 12 x 32 on AVX-512: 24 of 32 registers hold sums, and widths that are multiples of 32 waste nothing.
[[nodiscard]] const MicroKernel& avx512_kernel();
/// 12 x 32 pairs of bf16 on AVX-512 BF16: two products per lane and instruction.
[[nodiscard]] const MicroKernel& avx512_bf16_kernel();
/// The shapes of the two kernels above in AVX2 code: slow, they let their packing and blocking be tested everywhere.
[[nodiscard]] const MicroKernel& wide_kernel_on_avx2();
[[nodiscard]] const MicroKernel& pair_kernel_on_avx2();

}  // namespace duologue::cpu
