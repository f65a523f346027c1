// Shapes and slices of tensor views.
#include "duologue/core/tensor.h"

#include "duologue/core/error.h"

namespace duologue {

std::int64_t size_of(DataType type) {
    switch (type) {
        case DataType::kF32:
        case DataType::kI32:
            return 4;
        case DataType::kBf16:
            return 2;
        case DataType::kU8:
            return 1;
    }
    fail(ErrorCode::kInternal, "size of an unknown data type {}", static_cast<int>(type));
}

std::string_view name_of(DataType type) {
    switch (type) {
        case DataType::kF32:
            return "f32";
        case DataType::kBf16:
            return "bf16";
        case DataType::kI32:
            return "i32";
        case DataType::kU8:
            return "u8";
    }
    fail(ErrorCode::kInternal, "name of an unknown data type {}", static_cast<int>(type));
}

namespace {

void* advanced(const Tensor& tensor, std::int64_t elements) {
    return static_cast<std::byte*>(tensor.data) + elements * size_of(tensor.type);
}

}  // namespace

Tensor Tensor::row_range(std::int64_t begin, std::int64_t count) const {
    require(begin >= 0 && count >= 0 && begin + count <= rows, ErrorCode::kInternal,
            "rows [{}, {}) of a tensor with {} rows", begin, begin + count, rows);
    Tensor part = *this;
    part.data = advanced(*this, begin * row_stride);
    part.rows = count;
    return part;
}

Tensor Tensor::column_range(std::int64_t begin, std::int64_t count) const {
    require(begin >= 0 && count >= 0 && begin + count <= columns, ErrorCode::kInternal,
            "columns [{}, {}) of a tensor with {} columns", begin, begin + count, columns);
    Tensor part = *this;
    part.data = advanced(*this, begin);
    part.columns = count;
    return part;
}

Tensor Tensor::reshaped(std::int64_t new_rows, std::int64_t new_columns) const {
    require(contiguous() && new_rows * new_columns == elements(), ErrorCode::kInternal,
            "a {} x {} tensor seen as {} x {}", rows, columns, new_rows, new_columns);
    return make_tensor(data, type, new_rows, new_columns);
}

Tensor make_tensor(void* data, DataType type, std::int64_t rows, std::int64_t columns) {
    return {.data = data, .type = type, .rows = rows, .columns = columns, .row_stride = columns};
}

Tensor make_vector(void* data, DataType type, std::int64_t length) { return make_tensor(data, type, 1, length); }

}  // namespace duologue
