// Head: logits against the shared embedding, loss and its gradient, a few rows at a time.
#pragma once

#include <cstddef>
#include <cstdint>

#include "model/pass.h"

namespace duologue {

/// Logits are made in pieces of at most so many rows (Backend::piece_bytes()), so that all of [N,V] never exists in
/// training.
[[nodiscard]] std::int64_t most_logits_rows(const Backend& backend, std::int64_t vocabulary, DataType type);

/// The head's inputs: the decoder's output and what should be said.
struct HeadInput {
    std::size_t table = 0;  ///< entry [V,C]
    Tensor x;               ///< act [N,C]
    Tensor labels;          ///< i32 [N]; -1: not counted
    float smoothing = 0.0F;
};

/// losses f32 [N]; dx [N,C], overwritten; the table's gradient +=. All of the sum of losses.
void head_train(const BackwardPass& pass, const HeadInput& input, const Tensor& losses, const Tensor& dx);
/// losses f32 [N].
void head_evaluate(const ForwardPass& pass, const HeadInput& input, const Tensor& losses);
/// logits act [N,V] = x table^T.
void head_logits(Backend& backend, const Tensor& logits, const Tensor& x, const Tensor& table);

}  // namespace duologue
