// Rows of the token and position tables, and the sums of their gradients in the order of the rows.
#include "backend/cpu/dropout_mask.h"
#include "backend/cpu/loops.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/simd.h"
#include "duologue/core/error.h"

namespace duologue::cpu {

namespace {

constexpr std::int64_t kRowsPerPiece = 16;
constexpr std::int64_t kColumnsPerPiece = 64;

void check_indices(const char* what, const Tensor& indices, std::int64_t bound) {
    const auto* values = indices.as<std::int32_t>();
    for (std::int64_t i = 0; i < indices.elements(); ++i) {
        require(values[i] >= 0 && values[i] < bound, ErrorCode::kInternal,
                "embedding: {} {} of row {} is not in [0, {})", what, values[i], i, bound);
    }
}

template <class T>
void embed_row(const Tensor& y, const Embedding& operation, const float* factors, std::int64_t row) {
    const std::int64_t columns = y.columns;
    const T* entry = operation.table.as<T>() + operation.tokens.as<std::int32_t>()[row] * columns;
    const T* position = operation.position_table.as<T>() + operation.positions.as<std::int32_t>()[row] * columns;
    T* out = y.as<T>() + row * columns;
    for_each_vector(columns, [&](std::int64_t c, auto lanes) {
        const F8 sum = multiply_add(broadcast(operation.scale), load(entry + c, lanes), load(position + c, lanes));
        store(out + c, sum * load(factors + c), lanes);
    });
}

/// Columns begin .. end of one row's gradient, added to its two entries.
template <class T>
void add_row_gradient(const Tensor& dtable, const Tensor& dposition_table, const Tensor& dy, const Embedding& operation,
                      const float* factors, std::int64_t row, std::int64_t begin, std::int64_t end) {
    const std::int64_t columns = dy.columns;
    const T* gradient = dy.as<T>() + row * columns + begin;
    float* entry = dtable.as<float>() + operation.tokens.as<std::int32_t>()[row] * columns + begin;
    float* position = nullptr;
    if (!dposition_table.empty()) {
        position = dposition_table.as<float>() + operation.positions.as<std::int32_t>()[row] * columns + begin;
    }
    for_each_vector(end - begin, [&](std::int64_t c, auto lanes) {
        const F8 d = load(gradient + c, lanes) * load(factors + c);
        store(entry + c, multiply_add(broadcast(operation.scale), d, load(entry + c, lanes)), lanes);
        if (position != nullptr) store(position + c, load(position + c, lanes) + d, lanes);
    });
}

}  // namespace

void embedding_forward(Workspace& workspace, std::uint64_t random_key, const Tensor& y, const Embedding& operation) {
    check_indices("token", operation.tokens, operation.table.rows);
    check_indices("position", operation.positions, operation.position_table.rows);
    const DropoutMask mask(operation.dropout, random_key);
    const std::int64_t columns = y.columns;
    workspace.reserve_per_thread(Scratch::bytes_for<float>(DropoutMask::buffer_floats(columns)));
    with_element_type(y.type, [&]<class T>(T) {
        parallel_ranges(workspace.threads(), y.rows, kRowsPerPiece,
                        [&](std::int64_t begin, std::int64_t end, int thread) {
                            auto* buffer = workspace.of_thread(thread).take<float>(DropoutMask::buffer_floats(columns));
                            mask.prepare(buffer, columns);
                            for (std::int64_t row = begin; row < end; ++row) {
                                const auto first = static_cast<std::uint64_t>(row * columns);
                                embed_row<T>(y, operation, mask.factors(buffer, first, columns), row);
                            }
                        });
    });
}

// Each thread owns columns, not rows: every element is summed in the order of the rows by one thread.
void embedding_backward(Workspace& workspace, std::uint64_t random_key, const Tensor& dtable,
                        const Tensor& dposition_table, const Tensor& dy, const Embedding& operation) {
    check_indices("token", operation.tokens, operation.table.rows);
    check_indices("position", operation.positions, operation.position_table.rows);
    const DropoutMask mask(operation.dropout, random_key);
    workspace.reserve_per_thread(Scratch::bytes_for<float>(DropoutMask::buffer_floats(kColumnsPerPiece)));
    with_element_type(dy.type, [&]<class T>(T) {
        parallel_ranges(
            workspace.threads(), dy.columns, kColumnsPerPiece, [&](std::int64_t begin, std::int64_t end, int thread) {
                auto* buffer = workspace.of_thread(thread).take<float>(DropoutMask::buffer_floats(kColumnsPerPiece));
                mask.prepare(buffer, kColumnsPerPiece);
                for (std::int64_t row = 0; row < dy.rows; ++row) {
                    const auto first = static_cast<std::uint64_t>(row * dy.columns + begin);
                    const float* factors = mask.factors(buffer, first, end - begin);
                    add_row_gradient<T>(dtable, dposition_table, dy, operation, factors, row, begin, end);
                }
            });
    });
}

}  // namespace duologue::cpu
