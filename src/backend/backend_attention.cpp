// Backend: the checks of the attention operations, once for all devices.
#include "backend/operand_checks.h"
#include "duologue/backend/backend.h"

namespace duologue {

namespace {

void check_offsets(const OperandChecks& check, std::string_view name, const Offsets& offsets, std::int64_t sequences) {
    check.vector({name, offsets.values}, DataType::kI32, sequences + 1);
    check.that(offsets.sequences == sequences, "{} tell of {} sequences, expected {}", name, offsets.sequences,
               sequences);
    check.that(offsets.max_length >= 0, "{} with a longest sequence of {}", name, offsets.max_length);
}

void check_heads(const OperandChecks& check, std::int64_t columns, std::int64_t heads) {
    check.that(heads > 0 && columns > 0 && columns % heads == 0, "{} columns do not divide into {} heads", columns,
               heads);
}

void check_attention(const OperandChecks& check, const Attention& operation) {
    const Tensor& q = operation.q;
    const Tensor& k = operation.k;
    check.activation({"q", q});
    check_heads(check, q.columns, operation.heads);
    check.matrix({"q", q}, q.type, q.rows, q.columns, RowLayout::kMayBeStrided);
    check.matrix({"k", k}, q.type, k.rows, q.columns, RowLayout::kMayBeStrided);
    check.matrix({"v", operation.v}, q.type, k.rows, q.columns, RowLayout::kMayBeStrided);
    check_offsets(check, "q_offsets", operation.q_offsets, operation.q_offsets.sequences);
    check_offsets(check, "kv_offsets", operation.kv_offsets, operation.q_offsets.sequences);
    check.that(operation.causal == Causal::kNo || q.rows == k.rows, "causal attention of {} queries to {} keys", q.rows,
               k.rows);
    check.probability(operation.dropout.probability);
}

}  // namespace

void Backend::attention_forward(const Tensor& y, const Tensor& stats, const Attention& operation) {
    const OperandChecks check("attention_forward", addresses());
    const Operand q{"q", operation.q};
    const Operand k{"k", operation.k};
    const Operand v{"v", operation.v};
    check_attention(check, operation);
    check.matrix({"y", y}, operation.q.type, operation.q.rows, operation.q.columns, RowLayout::kMayBeStrided);
    if (!stats.empty()) check.matrix({"stats", stats}, DataType::kF32, operation.q.rows, operation.heads);
    check.separate({"y", y}, {q, k, v, {"stats", stats}});
    check.separate({"stats", stats}, {q, k, v});
    do_attention_forward(y, stats, operation);
}

void Backend::attention_backward(const Tensor& dq, const Tensor& dk, const Tensor& dv, const Tensor& dy,
                                 const Tensor& y, const Tensor& stats, const Tensor& scratch,
                                 const Attention& operation) {
    const OperandChecks check("attention_backward", addresses());
    const auto type = operation.q.type;
    const Operand q{"q", operation.q};
    const Operand k{"k", operation.k};
    const Operand v{"v", operation.v};
    check_attention(check, operation);
    for (const Operand& operand : {Operand{"dq", dq}, Operand{"dy", dy}, Operand{"y", y}}) {
        check.matrix(operand, type, operation.q.rows, operation.q.columns, RowLayout::kMayBeStrided);
    }
    check.matrix({"dk", dk}, type, operation.k.rows, operation.k.columns, RowLayout::kMayBeStrided);
    check.matrix({"dv", dv}, type, operation.k.rows, operation.k.columns, RowLayout::kMayBeStrided);
    check.matrix({"stats", stats}, DataType::kF32, operation.q.rows, operation.heads);
    check.workspace({"scratch", scratch}, attention_scratch_bytes(operation));
    check.separate({"dq", dq}, {{"dk", dk}, {"dv", dv}, {"dy", dy}, {"y", y}, {"stats", stats}, q, k, v});
    check.separate({"dk", dk}, {{"dv", dv}, {"dy", dy}, {"y", y}, {"stats", stats}, q, k, v});
    check.separate({"dv", dv}, {{"dy", dy}, {"y", y}, {"stats", stats}, q, k, v});
    check.separate({"scratch", scratch}, {{"dq", dq}, {"dk", dk}, {"dv", dv}, {"dy", dy}, {"y", y}, q, k, v});
    check.separate({"scratch", scratch}, {{"stats", stats}});
    do_attention_backward(dq, dk, dv, dy, y, stats, scratch, operation);
}

std::int64_t Backend::attention_scratch_bytes(const Attention& operation) const {
    check_heads(OperandChecks("attention_scratch_bytes", addresses()), operation.q.columns, operation.heads);
    return do_attention_scratch_bytes(operation);
}

void Backend::attention_decode(const Tensor& y, const AttentionDecode& operation) {
    const OperandChecks check("attention_decode", addresses());
    const auto& [q, k_cache, v_cache, lengths, capacity, heads, scale] = operation;
    check.activation({"q", q});
    check_heads(check, q.columns, heads);
    check.that(capacity > 0, "a cache of {} rows per sequence", capacity);
    check.matrix({"q", q}, q.type, q.rows, q.columns, RowLayout::kMayBeStrided);
    check.matrix({"y", y}, q.type, q.rows, q.columns, RowLayout::kMayBeStrided);
    check.matrix({"k_cache", k_cache}, q.type, q.rows * capacity, q.columns, RowLayout::kMayBeStrided);
    check.matrix({"v_cache", v_cache}, q.type, q.rows * capacity, q.columns, RowLayout::kMayBeStrided);
    check.vector({"lengths", lengths}, DataType::kI32, q.rows);
    check.separate({"y", y}, {{"q", q}, {"k_cache", k_cache}, {"v_cache", v_cache}, {"lengths", lengths}});
    do_attention_decode(y, operation);
}

}  // namespace duologue
