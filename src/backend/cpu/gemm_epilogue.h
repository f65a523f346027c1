// What happens to a tile of f32 sums before it is written: bias, activation, its gradient, accumulation, rounding.
#pragma once

#include <cstdint>

#include "duologue/backend/backend.h"

namespace duologue::cpu {

/// A tile of sums and its place in the result.
struct SumTile {
    const float* sums;
    std::int64_t stride;  // floats from row to row
    std::int64_t row;
    std::int64_t column;  // a multiple of 8: the activation mask keeps 8 columns in a byte
    std::int64_t rows;
    std::int64_t columns;
};

using StoreTile = void (*)(const Tensor& y, const Matmul& operation, const SumTile& tile);

/// The function that finishes tiles of this result and operation.
[[nodiscard]] StoreTile choose_store_tile(const Tensor& y, const Matmul& operation);

/// kBiasRelu: one bit per element, set where it is positive, rows padded to bytes. kBiasGelu: the input of gelu, as y.
[[nodiscard]] std::int64_t epilogue_aux_bytes(Epilogue epilogue, DataType type, std::int64_t rows,
                                              std::int64_t columns);

}  // namespace duologue::cpu
