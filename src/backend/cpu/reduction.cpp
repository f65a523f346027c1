// Sums in an order that depends on the shapes only: fixed pieces first, then the pieces one after the other.
#include <algorithm>

#include "backend/cpu/loops.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/simd.h"
#include "duologue/core/rounding.h"

namespace duologue::cpu {

namespace {

constexpr std::int64_t kElementsPerPiece = 16384;
constexpr std::int64_t kColumnsPerPiece = 64;
constexpr std::int64_t kRowsPerPiece = 32;
constexpr std::int64_t kMostPartials = 64;

/// Two vectors of doubles: eight running sums.
struct D8 {
    __m256d low = _mm256_setzero_pd();
    __m256d high = _mm256_setzero_pd();
};

struct Plain {
    static __m256d term(__m256d x) { return x; }
};
struct Square {
    static __m256d term(__m256d x) { return _mm256_mul_pd(x, x); }
};

template <class Term>
double sum_of_piece(const float* x, std::int64_t count) {
    D8 sums;
    for_each_vector(count, [&](std::int64_t i, auto lanes) {
        const F8 v = load(x + i, lanes);
        sums.low = _mm256_add_pd(sums.low, Term::term(_mm256_cvtps_pd(_mm256_castps256_ps128(v.v))));
        sums.high = _mm256_add_pd(sums.high, Term::term(_mm256_cvtps_pd(_mm256_extractf128_ps(v.v, 1))));
    });
    double parts[4];
    _mm256_storeu_pd(parts, _mm256_add_pd(sums.low, sums.high));
    return (parts[0] + parts[1]) + (parts[2] + parts[3]);
}

template <class Term>
void reduce(Workspace& workspace, const Tensor& y, const Tensor& x, Write write) {
    const std::int64_t pieces = divided_up(x.elements(), kElementsPerPiece);
    workspace.reserve_shared(Scratch::bytes_for<double>(pieces));
    auto* partials = workspace.shared().take<double>(pieces);
    const auto* values = x.as<float>();
    parallel_ranges(workspace.threads(), x.elements(), kElementsPerPiece,
                    [&](std::int64_t begin, std::int64_t end, int) {
                        partials[begin / kElementsPerPiece] = sum_of_piece<Term>(values + begin, end - begin);
                    });
    double total = write == Write::kAccumulate ? static_cast<double>(*y.as<float>()) : 0.0;
    for (std::int64_t i = 0; i < pieces; ++i) total += partials[i];
    *y.as<float>() = static_cast<float>(total);
}

}  // namespace

void add_partial_rows(int threads, float* total, const float* partials, std::int64_t count, std::int64_t columns,
                      Write write) {
    parallel_ranges(threads, columns, kColumnsPerPiece, [&](std::int64_t begin, std::int64_t end, int) {
        for_each_vector(end - begin, [&](std::int64_t i, auto lanes) {
            const std::int64_t c = begin + i;
            F8 column = zeros();
            for (std::int64_t p = 0; p < count; ++p) column = column + load(partials + p * columns + c, lanes);
            if (write == Write::kAccumulate) column = load(total + c, lanes) + column;
            store(total + c, column, lanes);
        });
    });
}

void column_sum(Workspace& workspace, const Tensor& db, const Tensor& dy, Write write) {
    const std::int64_t columns = dy.columns;
    const std::int64_t grain = std::max(kRowsPerPiece, divided_up(dy.rows, kMostPartials));
    const std::int64_t pieces = divided_up(dy.rows, grain);
    workspace.reserve_shared(Scratch::bytes_for<float>(pieces * columns));
    auto* partials = workspace.shared().take<float>(pieces * columns);
    with_element_type(dy.type, [&]<class T>(T) {
        parallel_ranges(workspace.threads(), dy.rows, grain, [&](std::int64_t begin, std::int64_t end, int) {
            float* sums = partials + begin / grain * columns;
            std::fill_n(sums, columns, 0.0F);
            for (std::int64_t row = begin; row < end; ++row) {
                const T* values = dy.as<T>() + row * dy.row_stride;
                for_each_vector(columns, [&](std::int64_t c, auto lanes) {
                    store(sums + c, load(sums + c, lanes) + load(values + c, lanes), lanes);
                });
            }
        });
    });
    add_partial_rows(workspace.threads(), db.as<float>(), partials, pieces, columns, write);
}

void sum(Workspace& workspace, const Tensor& y, const Tensor& x, Write write) { reduce<Plain>(workspace, y, x, write); }

void sum_squares(Workspace& workspace, const Tensor& y, const Tensor& x, Write write) {
    reduce<Square>(workspace, y, x, write);
}

}  // namespace duologue::cpu
