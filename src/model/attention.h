// Attention: multi-head self- and cross-attention with their projections, forward and backward.
#pragma once

#include <cstdint>
#include <string>

#include "model/linear.h"

namespace duologue {

/// What both kinds of attention are told.
struct AttentionShape {
    std::int64_t width = 0;
    std::int64_t heads = 1;
    Causal causal = Causal::kNo;
    Dropout dropout;  ///< on the probabilities
};

struct SelfAttention {
    AttentionShape shape;
    Linear qkv;  ///< [3C,C]: queries, keys, values
    Linear out;  ///< [C,C]

    [[nodiscard]] const Linear& last() const { return out; }
};

struct SelfAttentionSaved {
    Tensor x;      ///< act [N,C]
    Tensor qkv;    ///< act [N,3C]
    Tensor y;      ///< act [N,C]
    Tensor stats;  ///< f32 [N,H]
};

[[nodiscard]] SelfAttention declare_self_attention(ParameterTable& table, const std::string& name,
                                                   const AttentionShape& shape);
/// delta [N,C] from x [N,C].
[[nodiscard]] Tensor self_attention_forward(const ForwardPass& pass, const SelfAttention& layer, const Tensor& x,
                                            const Offsets& offsets, SelfAttentionSaved& saved);
/// dx [N,C] from ddelta [N,C], whose sum over rows, the gradient of out's bias, is the seam's; dx may be ddelta itself.
void self_attention_backward(const BackwardPass& pass, const SelfAttention& layer, const SelfAttentionSaved& saved,
                             const Offsets& offsets, const Tensor& dx, const Tensor& ddelta);

struct CrossAttention {
    AttentionShape shape;
    Linear q;    ///< [C,C]
    Linear kv;   ///< [2C,C]: keys, values
    Linear out;  ///< [C,C]

    [[nodiscard]] const Linear& last() const { return out; }
};

/// The encoder's output, M packed rows.
struct Memory {
    Tensor rows;  ///< act [M,C]
    Offsets offsets;
};

struct CrossAttentionSaved {
    Tensor x;      ///< act [N,C]
    Tensor q;      ///< act [N,C]
    Tensor kv;     ///< act [M,2C]
    Tensor y;      ///< act [N,C]
    Tensor stats;  ///< f32 [N,H]
};

[[nodiscard]] CrossAttention declare_cross_attention(ParameterTable& table, const std::string& name,
                                                     const AttentionShape& shape);
/// delta [N,C] from x [N,C] and the encoder's output.
[[nodiscard]] Tensor cross_attention_forward(const ForwardPass& pass, const CrossAttention& layer, const Tensor& x,
                                             const Offsets& offsets, const Memory& memory, CrossAttentionSaved& saved);
/// dx [N,C] from ddelta [N,C], whose sum over rows, the gradient of out's bias, is the seam's; dx may be ddelta itself.
/// dmemory f32 [M,C] +=: f32 because every layer adds to it.
void cross_attention_backward(const BackwardPass& pass, const CrossAttention& layer, const CrossAttentionSaved& saved,
                              const Offsets& offsets, const Memory& memory, const Tensor& dx, const Tensor& dmemory,
                              const Tensor& ddelta);

/// softmax(q k^T / sqrt(D)) v: the factor on the scores.
[[nodiscard]] float attention_scale(const AttentionShape& shape);

}  // namespace duologue
