// Feed-forward: delta = activation(x W1^T + b1) W2^T + b2, forward and backward.
#pragma once

#include <cstdint>
#include <string>

#include "duologue/config/config.h"
#include "model/linear.h"

namespace duologue {

struct FeedForward {
    std::int64_t hidden = 0;
    Activation activation = Activation::kRelu;
    Linear fc1;  ///< [F,C]
    Linear fc2;  ///< [C,F]

    [[nodiscard]] const Linear& last() const { return fc2; }
};

struct FeedForwardSaved {
    Tensor x;       ///< act [N,C]
    Tensor hidden;  ///< act [N,F], after the activation
    Tensor aux;     ///< what the back end keeps of the activation's argument
};

[[nodiscard]] FeedForward declare_feed_forward(ParameterTable& table, const std::string& name, std::int64_t width,
                                               std::int64_t hidden, Activation activation);
/// delta [N,C] from x [N,C].
[[nodiscard]] Tensor feed_forward_forward(const ForwardPass& pass, const FeedForward& layer, const Tensor& x,
                                          FeedForwardSaved& saved);
/// dx [N,C] from ddelta [N,C], whose sum over rows, the gradient of fc2's bias, is the seam's; dx may be ddelta itself.
void feed_forward_backward(const BackwardPass& pass, const FeedForward& layer, const FeedForwardSaved& saved,
                           const Tensor& dx, const Tensor& ddelta);

}  // namespace duologue
