// The innermost product of packed panels, written once for every vector width and compiled once per instruction set.
#pragma once

#include <cstdint>

#include "duologue/backend/backend.h"

namespace duologue::cpu {

/// One register tile of a matrix product (Goto and van de Geijn 2008; Van Zee and van de Geijn 2015).
struct MicroKernel {
    std::int64_t rows;
    std::int64_t columns;
    /// c[rows, columns], whose rows are `stride` floats apart, (+)= the sum over depth of a[k, rows] * b[k, columns].
    /// depth is at least 1.
    /// a and b are packed panels: `rows` and `columns` adjacent floats per k.
    void (*multiply)(std::int64_t depth, const float* a, const float* b, float* c, std::int64_t stride, Write write);
};

/// `kVectors` vectors beside each other, `kRows` rows: all sums stay in registers. `Isa` names the vector type, and
/// tells the compilations for different instruction sets apart.
template <class Isa, int kRows, int kVectors>
struct RegisterTile {
    using Vector = typename Isa::Vector;
    static constexpr int kWidth = sizeof(Vector) / sizeof(float);

    static void multiply(std::int64_t depth, const float* a, const float* b, float* c, std::int64_t stride,
                         Write write) {
        Vector sums[kRows][kVectors];
        const Vector* first = reinterpret_cast<const Vector*>(b);
        for (int r = 0; r < kRows; ++r) {
            for (int v = 0; v < kVectors; ++v) sums[r][v] = a[r] * first[v];
        }
        for (std::int64_t k = 1; k < depth; ++k) {
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
    static constexpr MicroKernel kKernel{kRows, kVectors* kWidth, &multiply};
};

/// 6 x 16 on AVX2 and FMA: 12 of 16 registers hold sums.
[[nodiscard]] const MicroKernel& avx2_kernel();
/// 8 x 48 on AVX-512: 24 of 32 registers hold sums.
[[nodiscard]] const MicroKernel& avx512_kernel();
/// The shape of avx512_kernel() in AVX2 code: slow, it lets the blocking for that shape be tested everywhere.
[[nodiscard]] const MicroKernel& wide_kernel_on_avx2();

}  // namespace duologue::cpu
