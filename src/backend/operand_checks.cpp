// Shape, type, stride and aliasing checks of tensor operands.
#include "backend/operand_checks.h"

#include <string>

#include "duologue/core/random.h"

namespace duologue {

namespace {

std::string described(const Tensor& tensor) {
    if (tensor.empty()) return "absent";
    std::string text = fmt::format("{} {} x {}", name_of(tensor.type), tensor.rows, tensor.columns);
    if (!tensor.contiguous()) text += fmt::format(" with row stride {}", tensor.row_stride);
    return text;
}

struct Bytes {
    std::uintptr_t begin = 0;
    std::uintptr_t end = 0;
};

Bytes row_bytes(const Tensor& tensor, std::int64_t row) {
    const auto begin = reinterpret_cast<std::uintptr_t>(tensor.data) +
                       static_cast<std::uintptr_t>(row * tensor.row_stride * size_of(tensor.type));
    return {.begin = begin, .end = begin + static_cast<std::uintptr_t>(tensor.columns * size_of(tensor.type))};
}

bool meet(const Bytes& a, const Bytes& b) { return a.begin < b.end && b.begin < a.end; }

// Whether `range` meets a row of `tensor`. Rows ascend, so only the rows from the last one that begins at or before the
// range's begin can.
bool meets_a_row(const Bytes& range, const Tensor& tensor) {
    const Bytes first = row_bytes(tensor, 0);
    const auto stride = static_cast<std::uintptr_t>(tensor.row_stride * size_of(tensor.type));
    const std::uintptr_t ahead = range.begin > first.begin ? range.begin - first.begin : 0;
    const auto row = static_cast<std::int64_t>(ahead / stride);
    return (row < tensor.rows && meet(range, row_bytes(tensor, row))) ||
           (row + 1 < tensor.rows && meet(range, row_bytes(tensor, row + 1)));
}

}  // namespace

bool overlap(const Tensor& a, const Tensor& b) {
    if (a.empty() || b.empty() || a.elements() == 0 || b.elements() == 0) return false;
    const Bytes span_a{.begin = row_bytes(a, 0).begin, .end = row_bytes(a, a.rows - 1).end};
    const Bytes span_b{.begin = row_bytes(b, 0).begin, .end = row_bytes(b, b.rows - 1).end};
    if (!meet(span_a, span_b)) return false;
    if (a.contiguous() && b.contiguous()) return true;
    const Tensor& fewer = a.rows <= b.rows ? a : b;
    const Tensor& more = a.rows <= b.rows ? b : a;
    for (std::int64_t row = 0; row < fewer.rows; ++row) {
        if (meets_a_row(row_bytes(fewer, row), more)) return true;
    }
    return false;
}

void OperandChecks::violated(const std::string& what) const { fail(ErrorCode::kInternal, "{}: {}", operation_, what); }

void OperandChecks::present(const Operand& operand) const {
    that(!operand.tensor.empty(), "{} is absent, but it is needed", operand.name);
}

void OperandChecks::absent(const Operand& operand) const {
    that(operand.tensor.empty(), "{} is {}, but it has no meaning here and must be absent", operand.name,
         described(operand.tensor));
}

void OperandChecks::activation(const Operand& operand) const {
    present(operand);
    that(operand.tensor.type == DataType::kF32 || operand.tensor.type == DataType::kBf16,
         "{} is {}, expected f32 or bf16", operand.name, described(operand.tensor));
}

void OperandChecks::matrix(const Operand& operand, DataType type, std::int64_t rows, std::int64_t columns,
                           RowLayout layout) const {
    const Tensor& tensor = operand.tensor;
    that(!tensor.empty() && tensor.type == type && tensor.rows == rows && tensor.columns == columns,
         "{} is {}, expected {} {} x {}", operand.name, described(tensor), name_of(type), rows, columns);
    that(tensor.rows <= 1 || tensor.row_stride >= tensor.columns, "{} is {} with row stride {}: its rows overlap",
         operand.name, described(tensor), tensor.row_stride);
    that(layout == RowLayout::kMayBeStrided || tensor.contiguous(), "{} is {}, expected contiguous rows", operand.name,
         described(tensor));
}

void OperandChecks::vector(const Operand& operand, DataType type, std::int64_t length) const {
    matrix(operand, type, 1, length);
}

void OperandChecks::workspace(const Operand& operand, std::int64_t bytes) const {
    const Tensor& tensor = operand.tensor;
    if (bytes == 0 && tensor.empty()) return;
    that(!tensor.empty() && tensor.type == DataType::kU8 && tensor.contiguous() && tensor.elements() >= bytes,
         "{} is {}, expected at least {} contiguous bytes of u8", operand.name, described(tensor), bytes);
}

void OperandChecks::separate(const Operand& output, std::initializer_list<Operand> others) const {
    if (addresses_ == Addresses::kInvented) return;
    for (const Operand& other : others) {
        that(!overlap(output.tensor, other.tensor), "{} ({}) overlaps {} ({}) in memory", output.name,
             described(output.tensor), other.name, described(other.tensor));
    }
}

void OperandChecks::separate_or_same(const Operand& output, std::initializer_list<Operand> others) const {
    for (const Operand& other : others) {
        const bool same = output.tensor.data == other.tensor.data && output.tensor.type == other.tensor.type &&
                          output.tensor.row_stride == other.tensor.row_stride;
        if (!same) separate(output, {other});
    }
}

void OperandChecks::probability(float value) const {
    that(value >= 0.0F && value < 1.0F && dropout_threshold(value) < 65536, "a dropout probability of {}", value);
}

}  // namespace duologue
