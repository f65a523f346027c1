// Projections around the back end's packed attention; queries, keys and values are column slices of one product.
#include "model/attention.h"

#include <cmath>

namespace duologue {

float attention_scale(const AttentionShape& shape) {
    return std::sqrt(static_cast<float>(shape.heads) / static_cast<float>(shape.width));
}

namespace {

struct Sides {
    Offsets q;
    Offsets kv;
};

Attention operation_of(const AttentionShape& shape, const Tensor& q, const Tensor& kv, const Sides& sides,
                       const Dropout& dropout) {
    return {.q = q,
            .k = kv.column_range(0, shape.width),
            .v = kv.column_range(shape.width, shape.width),
            .q_offsets = sides.q,
            .kv_offsets = sides.kv,
            .causal = shape.causal,
            .heads = shape.heads,
            .scale = attention_scale(shape),
            .dropout = dropout};
}

struct Attended {
    Tensor y;
    Tensor stats;
};

struct ProjectionGradients {
    Tensor dq;   ///< [N,C], may be strided
    Tensor dkv;  ///< [M,2C], may be strided
};

/// dq and dkv from ddelta [N,C], through the output projection `out`, whose bias is the seam's.
void attend_backward(const BackwardPass& pass, const Attention& operation, const Linear& out, const Attended& attended,
                     const ProjectionGradients& gradients, const Tensor& ddelta) {
    const std::int64_t width = attended.y.columns;
    linear_weight_gradient(pass, out, ddelta, attended.y);
    const Tensor dy = pass.activations(attended.y.rows, width);
    linear_input_gradient(pass, out, dy, ddelta);
    const Tensor scratch = pass.arena.allocate_vector(DataType::kU8, pass.backend.attention_scratch_bytes(operation));
    pass.backend.attention_backward(gradients.dq, gradients.dkv.column_range(0, width),
                                    gradients.dkv.column_range(width, width), dy, attended.y, attended.stats, scratch,
                                    operation);
}

}  // namespace

SelfAttention declare_self_attention(ParameterTable& table, const std::string& name, const AttentionShape& shape) {
    const std::int64_t width = shape.width;
    SelfAttention layer{.shape = shape, .qkv = {}, .out = {}};
    layer.out = declare_linear(table, name + ".out", width, width, 2 * width);
    layer.qkv = declare_linear(table, name + ".qkv", 3 * width, width, 2 * width);
    return layer;
}

Tensor self_attention_forward(const ForwardPass& pass, const SelfAttention& layer, const Tensor& x,
                              const Offsets& offsets, SelfAttentionSaved& saved) {
    const std::int64_t width = layer.shape.width;
    saved = {.x = x,
             .qkv = pass.activations(x.rows, 3 * width),
             .y = pass.activations(x.rows, width),
             .stats = pass.statistics(x.rows, layer.shape.heads)};
    linear_forward(pass, layer.qkv, saved.qkv, x);
    const Attention operation =
        operation_of(layer.shape, saved.qkv.column_range(0, width), saved.qkv.column_range(width, 2 * width),
                     {.q = offsets, .kv = offsets}, pass.active(layer.shape.dropout));
    pass.backend.attention_forward(saved.y, saved.stats, operation);
    const Tensor delta = pass.activations(x.rows, width);
    linear_forward(pass, layer.out, delta, saved.y);
    return delta;
}

void self_attention_backward(const BackwardPass& pass, const SelfAttention& layer, const SelfAttentionSaved& saved,
                             const Offsets& offsets, const Tensor& dx, const Tensor& ddelta) {
    const Arena::Scope scope(pass.arena);
    const std::int64_t width = layer.shape.width;
    const Tensor dqkv = pass.activations(saved.x.rows, 3 * width);
    const Attention operation =
        operation_of(layer.shape, saved.qkv.column_range(0, width), saved.qkv.column_range(width, 2 * width),
                     {.q = offsets, .kv = offsets}, layer.shape.dropout);
    attend_backward(pass, operation, layer.out, {.y = saved.y, .stats = saved.stats},
                    {.dq = dqkv.column_range(0, width), .dkv = dqkv.column_range(width, 2 * width)}, ddelta);
    linear_gradients(pass, layer.qkv, dqkv, saved.x);
    linear_input_gradient(pass, layer.qkv, dx, dqkv);
}

CrossAttention declare_cross_attention(ParameterTable& table, const std::string& name, const AttentionShape& shape) {
    const std::int64_t width = shape.width;
    CrossAttention layer{.shape = shape, .q = {}, .kv = {}, .out = {}};
    layer.out = declare_linear(table, name + ".out", width, width, 2 * width);
    layer.q = declare_linear(table, name + ".q", width, width, 2 * width);
    layer.kv = declare_linear(table, name + ".kv", 2 * width, width, 2 * width);
    return layer;
}

Tensor cross_attention_forward(const ForwardPass& pass, const CrossAttention& layer, const Tensor& x,
                               const Offsets& offsets, const Memory& memory, CrossAttentionSaved& saved) {
    const std::int64_t width = layer.shape.width;
    saved = {.x = x,
             .q = pass.activations(x.rows, width),
             .kv = pass.activations(memory.rows.rows, 2 * width),
             .y = pass.activations(x.rows, width),
             .stats = pass.statistics(x.rows, layer.shape.heads)};
    linear_forward(pass, layer.q, saved.q, x);
    linear_forward(pass, layer.kv, saved.kv, memory.rows);
    const Attention operation = operation_of(layer.shape, saved.q, saved.kv, {.q = offsets, .kv = memory.offsets},
                                             pass.active(layer.shape.dropout));
    pass.backend.attention_forward(saved.y, saved.stats, operation);
    const Tensor delta = pass.activations(x.rows, width);
    linear_forward(pass, layer.out, delta, saved.y);
    return delta;
}

void cross_attention_backward(const BackwardPass& pass, const CrossAttention& layer, const CrossAttentionSaved& saved,
                              const Offsets& offsets, const Memory& memory, const Tensor& dx, const Tensor& dmemory,
                              const Tensor& ddelta) {
    const Arena::Scope scope(pass.arena);
    const Tensor dq = pass.activations(saved.x.rows, layer.shape.width);
    const Tensor dkv = pass.activations(memory.rows.rows, 2 * layer.shape.width);
    const Attention operation =
        operation_of(layer.shape, saved.q, saved.kv, {.q = offsets, .kv = memory.offsets}, layer.shape.dropout);
    attend_backward(pass, operation, layer.out, {.y = saved.y, .stats = saved.stats}, {.dq = dq, .dkv = dkv}, ddelta);
    linear_gradients(pass, layer.q, dq, saved.x);
    linear_input_gradient(pass, layer.q, dx, dq);
    linear_gradients(pass, layer.kv, dkv, memory.rows);
    pass.backend.matmul(dmemory, {.a = dkv, .b = pass.weights[layer.kv.weight], .write = Write::kAccumulate});
}

}  // namespace duologue
