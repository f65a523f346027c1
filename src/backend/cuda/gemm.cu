// A plain tiled matrix product for any shape, stride and alignment: the path of what cuBLASLt does not take.
#include "backend/cuda/launch.cuh"

namespace duologue::cuda {

namespace {

constexpr int kTile = 32;
constexpr int kThreadRows = 8;  // a thread computes every kThreadRows-th row of its tile's column
constexpr int kRowsPerThread = kTile / kThreadRows;

template <class T, class Y>
struct Operands {
    Y* y;
    const T* a;
    const T* b;
    std::int64_t y_stride;
    std::int64_t a_row;     // elements from one row of op(a) to the next
    std::int64_t a_column;  // and from one column to the next
    std::int64_t b_row;
    std::int64_t b_column;
    std::int64_t rows;
    std::int64_t columns;
    std::int64_t inner;
    Write write;
};

template <class T, class Y>
__global__ void __launch_bounds__(kTile* kThreadRows) plain_matmul_kernel(Operands<T, Y> at) {
    __shared__ float a_tile[kTile][kTile + 1];
    __shared__ float b_tile[kTile][kTile + 1];
    const std::int64_t first_row = static_cast<std::int64_t>(blockIdx.y) * kTile;
    const std::int64_t first_column = static_cast<std::int64_t>(blockIdx.x) * kTile;
    const int lane = static_cast<int>(threadIdx.x);
    const int group = static_cast<int>(threadIdx.y);
    float sums[kRowsPerThread] = {};
    for (std::int64_t k = 0; k < at.inner; k += kTile) {
        for (int i = group; i < kTile; i += kThreadRows) {
            const std::int64_t row = first_row + i;
            const std::int64_t column = first_column + lane;
            a_tile[i][lane] =
                row < at.rows && k + lane < at.inner ? to_float(at.a[row * at.a_row + (k + lane) * at.a_column]) : 0.0F;
            b_tile[i][lane] = column < at.columns && k + i < at.inner
                                  ? to_float(at.b[(k + i) * at.b_row + column * at.b_column])
                                  : 0.0F;
        }
        __syncthreads();
#pragma unroll
        for (int j = 0; j < kTile; ++j) {
#pragma unroll
            for (int r = 0; r < kRowsPerThread; ++r) {
                sums[r] = fmaf(a_tile[group + r * kThreadRows][j], b_tile[j][lane], sums[r]);
            }
        }
        __syncthreads();
    }
    const std::int64_t column = first_column + lane;
#pragma unroll
    for (int r = 0; r < kRowsPerThread; ++r) {
        const std::int64_t row = first_row + group + r * kThreadRows;
        if (row >= at.rows || column >= at.columns) continue;
        Y& y = at.y[row * at.y_stride + column];
        y = from_float<Y>(sums[r] + (at.write == Write::kAccumulate ? to_float(y) : 0.0F));
    }
}

}  // namespace

cudaError_t plain_matmul(const Launch& launch, const Tensor& y, const Matmul& operation) {
    if (y.elements() == 0) return cudaSuccess;
    const Tensor& a = operation.a;
    const Tensor& b = operation.b;
    const bool across = operation.transpose_a == Transpose::kYes;
    const bool along = operation.transpose_b == Transpose::kYes;
    return with_type(a.type, [&](auto element) {
        return with_type(y.type, [&](auto result) {
            using T = decltype(element);
            using Y = decltype(result);
            const Operands<T, Y> at{.y = y.as<Y>(),
                                    .a = a.as<T>(),
                                    .b = b.as<T>(),
                                    .y_stride = y.row_stride,
                                    .a_row = across ? 1 : a.row_stride,
                                    .a_column = across ? a.row_stride : 1,
                                    .b_row = along ? 1 : b.row_stride,
                                    .b_column = along ? b.row_stride : 1,
                                    .rows = y.rows,
                                    .columns = y.columns,
                                    .inner = across ? a.rows : a.columns,
                                    .write = operation.write};
            const dim3 grid(static_cast<unsigned>(divided_up(y.columns, kTile)),
                            static_cast<unsigned>(divided_up(y.rows, kTile)));
            return launch_kernel(launch.stream, {grid, dim3(kTile, kThreadRows)}, plain_matmul_kernel<T, Y>, at);
        });
    });
}

}  // namespace duologue::cuda
