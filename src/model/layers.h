// Layers: everything a Transformer consists of, as entries of its parameter table.
#pragma once

#include <cstdint>
#include <optional>

#include "duologue/model/transformer.h"
#include "model/block.h"
#include "model/embedding.h"

namespace duologue {

// The architecture, exactly. With dropout D_p (inverted), LN (epsilon 1e-5, gain and offset), softmax over keys:
//   x      = D_p(sqrt(C) E[token] + sinusoid(position))                      E [V,C] is shared by source, target,
//   output att    = concat over heads of softmax(q k^T / sqrt(C/H)) v               D_a on the probabilities post:  x
//   <- LN(x + D_p(part(x)))        pre:  x <- x + D_p(part(LN(x))), and one more LN after the whole stack encoder
//   block: self-attention, feed-forward; decoder block: causal self-attention, cross-attention to the encoder's output
//   (after its last norm), feed-forward = W2 act(W1 x + b1) + b2, act = relu or gelu (tanh form), nothing dropped
//   inside. Every projection (q, k, v, out, W1, W2) has a bias; logits = x E^T has none.
// It is Marian's (post) and Pegasus's (pre) as Hugging Face writes them.
struct Transformer::Layers {
    ModelConfig config;
    std::int64_t vocabulary_size = 0;
    std::int64_t max_length = 0;  ///< of source and target
    DataType type = DataType::kF32;

    ParameterTable table;
    std::optional<Stack> encoder;  ///< absent in decoder-only models
    Stack decoder;
    EmbeddingLayer source_embedding;
    EmbeddingLayer target_embedding;

    DeviceBuffer position_memory;
    Tensor positions;  ///< act [max_length, C]
};

/// The encoder's output for `source`; absent in decoder-only models.
[[nodiscard]] Memory encode(const ForwardPass& pass, const Transformer::Layers& layers, const PackedRows& source,
                            StackInput& input, StackSaved& saved);

}  // namespace duologue
