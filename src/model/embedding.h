// Embedding: scaled rows of the shared table plus sinusoidal positions, forward and backward.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "duologue/model/transformer.h"
#include "model/pass.h"

namespace duologue {

struct EmbeddingLayer {
    std::size_t table = 0;  ///< entry [V,C], shared by source, target and output
    Dropout dropout;
};

/// The paper's sinusoids (Vaswani et al. 2017, section 3.5), f32 [length, width] row-major, regrouped as tensor2tensor
/// and Marian do: channel j < width/2 is sin(position / 10000^(2j/width)), channel width/2 + j its cosine.
[[nodiscard]] std::vector<float> sinusoidal_positions(std::int64_t length, std::int64_t width);

/// x [N,C] = dropout(sqrt(C) * table[tokens] + positions). `position_table` act [P,C].
[[nodiscard]] Tensor embedding_forward(const ForwardPass& pass, const EmbeddingLayer& layer, const PackedRows& rows,
                                       const Tensor& position_table);
/// dtable += from dx [N,C].
void embedding_backward(const BackwardPass& pass, const EmbeddingLayer& layer, const PackedRows& rows,
                        const Tensor& position_table, const Tensor& dx);

}  // namespace duologue
