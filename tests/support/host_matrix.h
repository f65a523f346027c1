// HostMatrix: a tensor's values as doubles on the host, and back with one rounding.
#pragma once

#include <cstdint>
#include <vector>

#include "duologue/core/error.h"
#include "duologue/core/tensor.h"

namespace duologue {

/// A rows x columns matrix of doubles.
class HostMatrix {
   public:
    HostMatrix() = default;
    HostMatrix(std::int64_t rows, std::int64_t columns)
        : rows_(rows), columns_(columns), values_(static_cast<std::size_t>(rows * columns)) {}

    [[nodiscard]] std::int64_t rows() const { return rows_; }
    [[nodiscard]] std::int64_t columns() const { return columns_; }
    [[nodiscard]] double& operator()(std::int64_t row, std::int64_t column) { return values_[index(row, column)]; }
    [[nodiscard]] double operator()(std::int64_t row, std::int64_t column) const { return values_[index(row, column)]; }
    /// Element of a vector or, in row-major order, of a matrix.
    [[nodiscard]] double& operator[](std::int64_t i) { return values_[static_cast<std::size_t>(i)]; }
    [[nodiscard]] double operator[](std::int64_t i) const { return values_[static_cast<std::size_t>(i)]; }
    [[nodiscard]] std::int64_t elements() const { return rows_ * columns_; }

   private:
    [[nodiscard]] std::size_t index(std::int64_t row, std::int64_t column) const {
        return static_cast<std::size_t>(row * columns_ + column);
    }

    std::int64_t rows_ = 0;
    std::int64_t columns_ = 0;
    std::vector<double> values_;
};

/// The values of a tensor in host memory, f32, bf16 or i32; an absent one gives 0 x 0.
[[nodiscard]] inline HostMatrix load(const Tensor& tensor) {
    if (tensor.empty()) return {};
    HostMatrix matrix(tensor.rows, tensor.columns);
    for (std::int64_t r = 0; r < tensor.rows; ++r) {
        for (std::int64_t c = 0; c < tensor.columns; ++c) {
            const std::int64_t i = r * tensor.row_stride + c;
            switch (tensor.type) {
                case DataType::kF32:
                    matrix(r, c) = tensor.as<float>()[i];
                    break;
                case DataType::kBf16:
                    matrix(r, c) = static_cast<float>(tensor.as<Bfloat16>()[i]);
                    break;
                case DataType::kI32:
                    matrix(r, c) = tensor.as<std::int32_t>()[i];
                    break;
                case DataType::kU8:
                    fail(ErrorCode::kInternal, "bytes have no value");
            }
        }
    }
    return matrix;
}

/// Writes the values, rounded to the tensor's type, f32 or bf16 (to nearest, ties to even).
inline void store(const Tensor& tensor, const HostMatrix& matrix) {
    for (std::int64_t r = 0; r < tensor.rows; ++r) {
        for (std::int64_t c = 0; c < tensor.columns; ++c) {
            const std::int64_t i = r * tensor.row_stride + c;
            const auto value = static_cast<float>(matrix(r, c));
            if (tensor.type == DataType::kBf16) {
                tensor.as<Bfloat16>()[i] = Bfloat16(value);
            } else {
                tensor.as<float>()[i] = value;
            }
        }
    }
}

}  // namespace duologue
