// Tensor: a typed, two-dimensional, row-major view of memory that somebody else owns.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "duologue/core/bfloat16.h"

namespace duologue {

enum class DataType : std::uint8_t { kF32, kBf16, kI32, kU8 };

[[nodiscard]] std::int64_t size_of(DataType type);  // bytes of one element
[[nodiscard]] std::string_view name_of(DataType type);

/// A view: copying it copies no data, and like a span its constness is shallow. Elements of a row are adjacent,
/// rows are `row_stride` elements apart. A vector is one row. `data` is device memory of the back end in use; the
/// planning back end never reads it. A default-constructed Tensor is "absent" (`empty()`).
struct Tensor {
    void* data = nullptr;
    DataType type = DataType::kF32;
    std::int64_t rows = 0;
    std::int64_t columns = 0;
    std::int64_t row_stride = 0;

    [[nodiscard]] bool empty() const { return data == nullptr; }
    [[nodiscard]] bool contiguous() const { return row_stride == columns || rows <= 1; }
    [[nodiscard]] std::int64_t elements() const { return rows * columns; }
    [[nodiscard]] std::int64_t bytes() const { return elements() * size_of(type); }  // of a contiguous tensor

    /// Rows [begin, begin + count).
    [[nodiscard]] Tensor row_range(std::int64_t begin, std::int64_t count) const;
    /// Columns [begin, begin + count) of every row: a strided view.
    [[nodiscard]] Tensor column_range(std::int64_t begin, std::int64_t count) const;
    /// The same contiguous elements as `rows` x `columns`.
    [[nodiscard]] Tensor reshaped(std::int64_t new_rows, std::int64_t new_columns) const;

    /// Host access; the caller knows the type and that the memory is the host's.
    template <class T>
    [[nodiscard]] T* as() const {
        return static_cast<T*>(data);
    }
};

/// A contiguous rows x columns view of `data`.
[[nodiscard]] Tensor make_tensor(void* data, DataType type, std::int64_t rows, std::int64_t columns);
/// A vector of `length` elements (one row).
[[nodiscard]] Tensor make_vector(void* data, DataType type, std::int64_t length);

}  // namespace duologue
