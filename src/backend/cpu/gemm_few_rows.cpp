// Products with very few rows: every element of b is read once, straight from where it lies.
#include <algorithm>

#include "backend/cpu/gemm.h"
#include "backend/cpu/gemm_epilogue.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/simd.h"
#include "duologue/core/rounding.h"

namespace duologue::cpu {

namespace {

constexpr std::int64_t kStrip = 32;  // columns of the result that are worked on together
constexpr std::int64_t kStripsPerPiece = 4;

/// op(a) as f32 [rows, depth].
template <class T>
void gather_rows(float* rows, const Matmul& operation, std::int64_t count, std::int64_t depth) {
    const T* a = operation.a.as<T>();
    const std::int64_t stride = operation.a.row_stride;
    const bool transposed = operation.transpose_a == Transpose::kYes;
    for (std::int64_t i = 0; i < count; ++i) {
        for (std::int64_t k = 0; k < depth; ++k) {
            rows[i * depth + k] = static_cast<float>(transposed ? a[k * stride + i] : a[i * stride + k]);
        }
    }
}

/// The dot product of a row with a row of a transposed b.
template <class T>
float dot(const float* a, const T* b, std::int64_t depth) {
    F8 sums[4] = {zeros(), zeros(), zeros(), zeros()};
    std::int64_t k = 0;
    for (; k + 4 * kLanes <= depth; k += 4 * kLanes) {
        for (std::int64_t u = 0; u < 4; ++u) {
            const std::int64_t at = k + u * kLanes;
            sums[u] = multiply_add(load(a + at), load(b + at), sums[u]);
        }
    }
    for_each_vector(depth - k, [&](std::int64_t rest, auto lanes) {
        sums[0] = multiply_add(load(a + k + rest, lanes), load(b + k + rest, lanes), sums[0]);
    });
    return sum_lanes((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

/// A row times a strip of a b that is not transposed.
template <class T>
void row_times_strip(float* sums, const float* a, const T* b, std::int64_t stride, std::int64_t depth,
                     std::int64_t columns) {
    if (columns == kStrip) {
        F8 total[4] = {zeros(), zeros(), zeros(), zeros()};
        for (std::int64_t k = 0; k < depth; ++k) {
            const F8 factor = broadcast(a[k]);
            for (std::int64_t u = 0; u < 4; ++u) {
                total[u] = multiply_add(factor, load(b + k * stride + u * kLanes), total[u]);
            }
        }
        for (std::int64_t u = 0; u < 4; ++u) store(sums + u * kLanes, total[u]);
        return;
    }
    for_each_vector(columns, [&](std::int64_t j, auto lanes) {
        F8 total = zeros();
        for (std::int64_t k = 0; k < depth; ++k) {
            total = multiply_add(broadcast(a[k]), load(b + k * stride + j, lanes), total);
        }
        store(sums + j, total);
    });
}

template <class T>
void multiply_few(Workspace& workspace, const Tensor& y, const Matmul& operation) {
    const std::int64_t depth = operation.transpose_a == Transpose::kYes ? operation.a.rows : operation.a.columns;
    workspace.reserve_shared(Scratch::bytes_for<float>(y.rows * depth));
    auto* rows = workspace.shared().take<float>(y.rows * depth);
    gather_rows<T>(rows, operation, y.rows, depth);
    const T* b = operation.b.as<T>();
    const std::int64_t stride = operation.b.row_stride;
    const bool transposed = operation.transpose_b == Transpose::kYes;
    const StoreTile store_tile = choose_store_tile(y, operation);
    const std::int64_t strips = divided_up(y.columns, kStrip);
    parallel_ranges(workspace.threads(), strips, kStripsPerPiece, [&](std::int64_t begin, std::int64_t end, int) {
        for (std::int64_t strip = begin; strip < end; ++strip) {
            const std::int64_t first = strip * kStrip;
            const std::int64_t columns = std::min(kStrip, y.columns - first);
            alignas(32) float sums[kFewRows * kStrip] = {};
            for (std::int64_t i = 0; i < y.rows; ++i) {
                if (transposed) {
                    for (std::int64_t j = 0; j < columns; ++j) {
                        sums[i * kStrip + j] = dot(rows + i * depth, b + (first + j) * stride, depth);
                    }
                } else {
                    row_times_strip(sums + i * kStrip, rows + i * depth, b + first, stride, depth, columns);
                }
            }
            store_tile(y, operation,
                       {.sums = sums, .stride = kStrip, .row = 0, .column = first, .rows = y.rows, .columns = columns});
        }
    });
}

}  // namespace

void multiply_few_rows(Workspace& workspace, const Tensor& y, const Matmul& operation) {
    with_element_type(operation.a.type, [&]<class T>(T) { multiply_few<T>(workspace, y, operation); });
}

}  // namespace duologue::cpu
