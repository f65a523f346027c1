// Backend: the checks of every operation but attention, once for all devices.
#include "duologue/backend/backend.h"

#include "backend/operand_checks.h"

namespace duologue {

namespace {

// The operation that writes the aux which `epilogue` writes or reads.
Epilogue forward_of(Epilogue epilogue) {
    if (epilogue == Epilogue::kReluGrad) return Epilogue::kBiasRelu;
    if (epilogue == Epilogue::kGeluGrad) return Epilogue::kBiasGelu;
    return epilogue;
}

bool adds_bias(Epilogue epilogue) {
    return epilogue == Epilogue::kBias || epilogue == Epilogue::kBiasRelu || epilogue == Epilogue::kBiasGelu;
}

bool reads_aux(Epilogue epilogue) { return forward_of(epilogue) != epilogue; }

bool writes_aux(Epilogue epilogue) { return epilogue == Epilogue::kBiasRelu || epilogue == Epilogue::kBiasGelu; }

void check_matmul_shapes(const OperandChecks& check, const Tensor& y, const Matmul& operation) {
    const auto& [a, b, transpose_a, transpose_b, write, epilogue, bias, aux, a_sums] = operation;
    check.activation({"a", a});
    check.activation({"y", y});
    check.that(y.type == a.type || y.type == DataType::kF32, "y is {}, expected {} or f32", name_of(y.type),
               name_of(a.type));
    const bool across = transpose_a == Transpose::kYes;
    const std::int64_t inner = across ? a.rows : a.columns;
    check.matrix({"a", a}, a.type, across ? inner : y.rows, across ? y.rows : inner, RowLayout::kMayBeStrided);
    const bool along = transpose_b == Transpose::kYes;
    check.matrix({"b", b}, a.type, along ? y.columns : inner, along ? inner : y.columns, RowLayout::kMayBeStrided);
    check.matrix({"y", y}, y.type, y.rows, y.columns, RowLayout::kMayBeStrided);
    check.that(write == Write::kOverwrite || (y.type == DataType::kF32 && epilogue == Epilogue::kNone),
               "accumulating needs an f32 y and no epilogue, y is {} and the epilogue number {}", name_of(y.type),
               static_cast<int>(epilogue));
}

void check_residual_norm_shapes(const OperandChecks& check, const Tensor& x, const Tensor& gamma) {
    check.activation({"x or dy", x});
    check.that(x.columns > 0, "rows of {} elements", x.columns);
    check.matrix({"x or dy", x}, x.type, x.rows, x.columns);
    check.vector({"gamma", gamma}, x.type, x.columns);
}

void check_embedding(const OperandChecks& check, const Embedding& operation, std::int64_t rows) {
    const Tensor& table = operation.table;
    const Tensor& positions = operation.position_table;
    check.activation({"table", table});
    check.matrix({"table", table}, table.type, table.rows, table.columns);
    check.matrix({"position_table", positions}, table.type, positions.rows, table.columns);
    check.vector({"tokens", operation.tokens}, DataType::kI32, rows);
    check.vector({"positions", operation.positions}, DataType::kI32, rows);
    check.probability(operation.dropout.probability);
}

}  // namespace

// --- memory

DeviceBuffer Backend::allocate(std::int64_t bytes) {
    require(bytes >= 0, ErrorCode::kInternal, "allocate: {} bytes", bytes);
    return do_allocate(bytes);
}

void Backend::zero(const Tensor& y) {
    const OperandChecks check("zero", addresses());
    check.matrix({"y", y}, y.type, y.rows, y.columns);
    do_zero(y);
}

void Backend::copy(const Tensor& y, const Tensor& x) {
    const OperandChecks check("copy", addresses());
    check.matrix({"x", x}, x.type, x.rows, x.columns, RowLayout::kMayBeStrided);
    check.matrix({"y", y}, x.type, x.rows, x.columns, RowLayout::kMayBeStrided);
    check.separate({"y", y}, {{"x", x}});
    do_copy(y, x);
}

void Backend::upload(const Tensor& y, const void* host) {
    const OperandChecks check("upload", addresses());
    check.matrix({"y", y}, y.type, y.rows, y.columns);
    check.that(host != nullptr || y.elements() == 0, "no host memory for {} elements", y.elements());
    do_upload(y, host);
}

void Backend::download(void* host, const Tensor& x) {
    const OperandChecks check("download", addresses());
    check.matrix({"x", x}, x.type, x.rows, x.columns);
    check.that(host != nullptr || x.elements() == 0, "no host memory for {} elements", x.elements());
    do_download(host, x);
}

void Backend::synchronize() { do_synchronize(); }

void Backend::set_random_key(std::uint64_t key) { do_set_random_key(key); }

// --- linear

void Backend::matmul(const Tensor& y, const Matmul& operation) {
    const OperandChecks check("matmul", addresses());
    const auto& [a, b, transpose_a, transpose_b, write, epilogue, bias, aux, a_sums] = operation;
    check_matmul_shapes(check, y, operation);
    if (adds_bias(epilogue)) {
        check.vector({"bias", bias}, a.type, y.columns);
    } else {
        check.absent({"bias", bias});
    }
    if (reads_aux(epilogue)) check.present({"aux", aux});
    if (reads_aux(epilogue) || (writes_aux(epilogue) && !aux.empty())) {
        check.vector({"aux", aux}, DataType::kU8, aux_bytes(epilogue, y.type, y.rows, y.columns));
    } else {
        check.absent({"aux", aux});
    }
    if (!a_sums.empty()) {
        check.vector({"a_sums", a_sums}, DataType::kF32, y.rows);
        check.that(transpose_a == Transpose::kYes && epilogue == Epilogue::kNone,
                   "a_sums without a transposed a, or with an epilogue");
        check.separate({"a_sums", a_sums}, {{"y", y}, {"a", a}, {"b", b}});
    }
    check.separate({"y", y}, {{"a", a}, {"b", b}, {"bias", bias}, {"aux", aux}});
    if (writes_aux(epilogue)) check.separate({"aux", aux}, {{"a", a}, {"b", b}, {"bias", bias}});
    do_matmul(y, operation);
}

std::int64_t Backend::aux_bytes(Epilogue epilogue, DataType type, std::int64_t rows, std::int64_t columns) const {
    require(rows >= 0 && columns >= 0, ErrorCode::kInternal, "aux_bytes: a result of {} x {}", rows, columns);
    const Epilogue forward = forward_of(epilogue);
    return writes_aux(forward) ? do_aux_bytes(forward, type, rows, columns) : 0;
}

void Backend::column_sum(const Tensor& db, const Tensor& dy, Write write) {
    const OperandChecks check("column_sum", addresses());
    check.activation({"dy", dy});
    check.matrix({"dy", dy}, dy.type, dy.rows, dy.columns, RowLayout::kMayBeStrided);
    check.vector({"db", db}, DataType::kF32, dy.columns);
    check.separate({"db", db}, {{"dy", dy}});
    do_column_sum(db, dy, write);
}

// --- norm

void Backend::residual_norm_forward(const Tensor& sum, const Tensor& y, const Tensor& mean, const Tensor& rstd,
                                    const ResidualNorm& operation) {
    const OperandChecks check("residual_norm_forward", addresses());
    const auto& [x, delta, dropout, gamma, beta, epsilon] = operation;
    check_residual_norm_shapes(check, x, gamma);
    check.vector({"beta", beta}, x.type, x.columns);
    check.matrix({"y", y}, x.type, x.rows, x.columns);
    check.probability(dropout.probability);
    if (delta.empty()) {
        check.absent({"sum", sum});
    } else {
        check.matrix({"delta", delta}, x.type, x.rows, x.columns);
        check.matrix({"sum", sum}, x.type, x.rows, x.columns);
    }
    check.that(mean.empty() == rstd.empty(), "only one of mean and rstd is absent");
    if (!mean.empty()) {
        check.vector({"mean", mean}, DataType::kF32, x.rows);
        check.vector({"rstd", rstd}, DataType::kF32, x.rows);
    }
    check.separate_or_same({"sum", sum}, {{"x", x}, {"delta", delta}});
    check.separate({"sum", sum}, {{"gamma", gamma}, {"beta", beta}});
    check.separate({"y", y}, {{"sum", sum}, {"x", x}, {"delta", delta}, {"gamma", gamma}, {"beta", beta}});
    check.separate({"mean", mean}, {{"sum", sum}, {"y", y}, {"x", x}, {"delta", delta}, {"rstd", rstd}});
    check.separate({"rstd", rstd}, {{"sum", sum}, {"y", y}, {"x", x}, {"delta", delta}});
    do_residual_norm_forward(sum, y, mean, rstd, operation);
}

void Backend::residual_norm_backward(const ResidualNormGradients& gradients, const ResidualNormBackward& operation) {
    const OperandChecks check("residual_norm_backward", addresses());
    const auto& [dx, ddelta, ddelta_sum, dgamma, dbeta] = gradients;
    const auto& [dy, branch, above, sum, mean, rstd, gamma, dropout] = operation;
    check_residual_norm_shapes(check, dy, gamma);
    check.matrix({"dx", dx}, dy.type, dy.rows, dy.columns);
    check.matrix({"sum", sum}, dy.type, dy.rows, dy.columns);
    if (!branch.empty()) check.matrix({"dy_branch", branch}, dy.type, dy.rows, dy.columns);
    if (!above.empty()) check.matrix({"dsum_above", above}, dy.type, dy.rows, dy.columns);
    if (!ddelta.empty()) check.matrix({"ddelta", ddelta}, dy.type, dy.rows, dy.columns);
    check.vector({"mean", mean}, DataType::kF32, dy.rows);
    check.vector({"rstd", rstd}, DataType::kF32, dy.rows);
    check.vector({"dgamma", dgamma}, DataType::kF32, dy.columns);
    check.vector({"dbeta", dbeta}, DataType::kF32, dy.columns);
    if (ddelta.empty()) {
        check.absent({"ddelta_sum", ddelta_sum});
    } else if (!ddelta_sum.empty()) {
        check.vector({"ddelta_sum", ddelta_sum}, DataType::kF32, dy.columns);
    }
    check.probability(dropout.probability);
    check.separate_or_same({"dx", dx}, {{"dy", dy}, {"dsum_above", above}});
    check.separate({"dx", dx}, {{"dy_branch", branch}, {"sum", sum}, {"mean", mean}, {"rstd", rstd}, {"gamma", gamma}});
    check.separate_or_same({"ddelta", ddelta}, {{"dy_branch", branch}});
    check.separate({"ddelta", ddelta}, {{"dx", dx}, {"dy", dy}, {"dsum_above", above}, {"sum", sum}, {"gamma", gamma}});
    for (const Tensor& total : {dgamma, dbeta, ddelta_sum}) {
        check.separate({"a sum over rows", total},
                       {{"dx", dx}, {"ddelta", ddelta}, {"dy", dy}, {"dy_branch", branch}, {"sum", sum}});
    }
    check.separate({"dgamma", dgamma}, {{"dbeta", dbeta}, {"ddelta_sum", ddelta_sum}});
    check.separate({"dbeta", dbeta}, {{"ddelta_sum", ddelta_sum}});
    do_residual_norm_backward(gradients, operation);
}

// --- embedding

void Backend::embedding_forward(const Tensor& y, const Embedding& operation) {
    const OperandChecks check("embedding_forward", addresses());
    check_embedding(check, operation, y.rows);
    check.matrix({"y", y}, operation.table.type, y.rows, operation.table.columns);
    check.separate({"y", y}, {{"tokens", operation.tokens},
                              {"positions", operation.positions},
                              {"table", operation.table},
                              {"position_table", operation.position_table}});
    do_embedding_forward(y, operation);
}

void Backend::embedding_backward(const Tensor& dtable, const Tensor& dposition_table, const Tensor& dy,
                                 const Embedding& operation) {
    const OperandChecks check("embedding_backward", addresses());
    const Tensor& table = operation.table;
    check_embedding(check, operation, dy.rows);
    check.matrix({"dy", dy}, table.type, dy.rows, table.columns);
    check.matrix({"dtable", dtable}, DataType::kF32, table.rows, table.columns);
    check.separate({"dtable", dtable}, {{"dy", dy}, {"dposition_table", dposition_table}, {"table", table}});
    if (!dposition_table.empty()) {
        check.matrix({"dposition_table", dposition_table}, DataType::kF32, operation.position_table.rows,
                     table.columns);
        check.separate({"dposition_table", dposition_table}, {{"dy", dy}, {"table", table}});
    }
    do_embedding_backward(dtable, dposition_table, dy, operation);
}

// --- loss

void Backend::cross_entropy(const Tensor& losses, const Tensor& logits, const Tensor& targets, float smoothing,
                            LossGradient gradient) {
    const OperandChecks check("cross_entropy", addresses());
    check.activation({"logits", logits});
    check.that(logits.columns > 0, "a vocabulary of {}", logits.columns);
    check.matrix({"logits", logits}, logits.type, logits.rows, logits.columns);
    check.vector({"losses", losses}, DataType::kF32, logits.rows);
    check.vector({"targets", targets}, DataType::kI32, logits.rows);
    check.that(smoothing >= 0.0F && smoothing <= 1.0F, "a smoothing of {}, expected 0 to 1", smoothing);
    check.separate({"losses", losses}, {{"logits", logits}, {"targets", targets}});
    check.separate({"logits", logits}, {{"targets", targets}});
    do_cross_entropy(losses, logits, targets, smoothing, gradient);
}

// --- elementwise

void Backend::add(const Tensor& y, const Tensor& a, const Tensor& b) {
    const OperandChecks check("add", addresses());
    check.activation({"y", y});
    check.matrix({"y", y}, y.type, y.rows, y.columns);
    check.matrix({"a", a}, y.type, y.rows, y.columns);
    check.matrix({"b", b}, y.type, y.rows, y.columns);
    check.separate_or_same({"y", y}, {{"a", a}, {"b", b}});
    do_add(y, a, b);
}

void Backend::cast(const Tensor& y, const Tensor& x) {
    const OperandChecks check("cast", addresses());
    check.activation({"y", y});
    check.activation({"x", x});
    check.matrix({"y", y}, y.type, x.rows, x.columns);
    check.matrix({"x", x}, x.type, x.rows, x.columns);
    check.separate({"y", y}, {{"x", x}});
    do_cast(y, x);
}

void Backend::dropout(const Tensor& y, const Tensor& x, const Dropout& dropout) {
    const OperandChecks check("dropout", addresses());
    check.activation({"y", y});
    check.matrix({"y", y}, y.type, y.rows, y.columns);
    check.matrix({"x", x}, y.type, y.rows, y.columns);
    check.probability(dropout.probability);
    check.separate_or_same({"y", y}, {{"x", x}});
    do_dropout(y, x, dropout);
}

// --- reduction

void Backend::sum(const Tensor& y, const Tensor& x, Write write) {
    const OperandChecks check("sum", addresses());
    check.matrix({"x", x}, DataType::kF32, x.rows, x.columns);
    check.vector({"y", y}, DataType::kF32, 1);
    check.separate({"y", y}, {{"x", x}});
    do_sum(y, x, write);
}

void Backend::sum_squares(const Tensor& y, const Tensor& x, Write write) {
    const OperandChecks check("sum_squares", addresses());
    check.matrix({"x", x}, DataType::kF32, x.rows, x.columns);
    check.vector({"y", y}, DataType::kF32, 1);
    check.separate({"y", y}, {{"x", x}});
    do_sum_squares(y, x, write);
}

// --- optimizer

void Backend::adamw(const AdamW& operation) {
    const OperandChecks check("adamw", addresses());
    const Operand values{"values", operation.values};
    const Operand weights{"weights", operation.weights};
    const Operand first{"first", operation.first};
    const Operand second{"second", operation.second};
    const Operand gradients{"gradients", operation.gradients};
    const std::int64_t length = operation.values.columns;
    for (const Operand& operand : {values, first, second, gradients}) check.vector(operand, DataType::kF32, length);
    if (!operation.weights.empty()) {
        check.activation(weights);
        check.vector(weights, operation.weights.type, length);
    }
    const Operand divisor{"divisor", operation.divisor};
    const Operand square_sum{"square_sum", operation.square_sum};
    check.vector(divisor, DataType::kF32, 1);
    check.vector(square_sum, DataType::kF32, 1);
    const Operand loss{"loss", operation.loss};
    if (!operation.loss.empty()) check.vector(loss, DataType::kF32, 1);
    check.that(operation.step >= 1, "step {}, expected 1 or more", operation.step);
    check.separate(values, {weights, first, second, gradients, divisor, square_sum, loss});
    check.separate(weights, {first, second, gradients, divisor, square_sum, loss});
    check.separate(first, {second, gradients, divisor, square_sum, loss});
    check.separate(second, {gradients, divisor, square_sum, loss});
    do_adamw(operation);
}

}  // namespace duologue
