// Output layer and loss in pieces of rows.
#include "model/head.h"

#include <algorithm>

#include "duologue/core/rounding.h"

namespace duologue {
namespace {

// Pieces have multiples of so many rows.
std::int64_t unit_of(const Backend& backend) { return backend.packing() == Packing::kTiled ? kTileRows : 1; }

/// Calls `use(piece of logits, first row, rows)` for pieces of nearly equal size: of whole tiles, where rows are tiled.
template <class Pass, class Use>
void for_each_piece(const Pass& pass, const Tensor& x, std::int64_t vocabulary, const Use& use) {
    const Arena::Scope scope(pass.arena);
    const std::int64_t unit = unit_of(pass.backend);
    const std::int64_t most = most_logits_rows(pass.backend, vocabulary, x.type);
    // Of the largest size, not of the balanced one below: what is taken must never shrink as rows grow.
    const Tensor room = pass.arena.allocate(x.type, std::min(most, x.rows), vocabulary);
    const std::int64_t pieces = divided_up(x.rows, most);
    const std::int64_t units = divided_up(x.rows, unit);
    for (std::int64_t piece = 0; piece < pieces; ++piece) {
        const std::int64_t begin = units * piece / pieces * unit;
        const std::int64_t rows = std::min(units * (piece + 1) / pieces * unit, x.rows) - begin;
        use(room.row_range(0, rows), begin, rows);
    }
}

}  // namespace

std::int64_t most_logits_rows(const Backend& backend, std::int64_t vocabulary, DataType type) {
    const std::int64_t rows = std::max<std::int64_t>(1, backend.piece_bytes() / (vocabulary * size_of(type)));
    return rounded_up(rows, unit_of(backend));
}

void head_logits(Backend& backend, const Tensor& logits, const Tensor& x, const Tensor& table) {
    backend.matmul(logits, {.a = x, .b = table, .transpose_b = Transpose::kYes});
}

void head_train(const BackwardPass& pass, const HeadInput& input, const Tensor& losses, const Tensor& dx) {
    const Tensor table = pass.weights[input.table];
    for_each_piece(pass, input.x, table.rows, [&](const Tensor& logits, std::int64_t begin, std::int64_t rows) {
        const Tensor x = input.x.row_range(begin, rows);
        head_logits(pass.backend, logits, x, table);
        pass.backend.cross_entropy(losses.column_range(begin, rows), logits, input.labels.column_range(begin, rows),
                                   input.smoothing, LossGradient::kInPlace);
        pass.backend.matmul(dx.row_range(begin, rows), {.a = logits, .b = table});
        pass.backend.matmul(pass.gradients[input.table],
                            {.a = logits, .b = x, .transpose_a = Transpose::kYes, .write = Write::kAccumulate});
    });
}

void head_evaluate(const ForwardPass& pass, const HeadInput& input, const Tensor& losses) {
    const Tensor table = pass.weights[input.table];
    for_each_piece(pass, input.x, table.rows, [&](const Tensor& logits, std::int64_t begin, std::int64_t rows) {
        head_logits(pass.backend, logits, input.x.row_range(begin, rows), table);
        pass.backend.cross_entropy(losses.column_range(begin, rows), logits, input.labels.column_range(begin, rows),
                                   input.smoothing, LossGradient::kNone);
    });
}

}  // namespace duologue
