// Fused residual and layer norm, for both placements of the norm.
#include "model/residual.h"

namespace duologue {

Norm declare_norm(ParameterTable& table, const std::string& name, std::int64_t width) {
    Norm norm;
    norm.gamma = table.add(name + ".weight", 1, width, Initializer::kOne, 0.0);
    norm.beta = table.add(name + ".bias", 1, width, Initializer::kZero, 0.0);
    return norm;
}

Stream seam_forward(const ForwardPass& pass, const Seam& seam, const Stream& stream, const Tensor& delta,
                    NormSaved& saved) {
    saved = {.sum = delta, .mean = pass.statistics(1, delta.rows), .rstd = pass.statistics(1, delta.rows)};
    const Tensor normed = pass.activations(delta.rows, delta.columns);
    pass.backend.residual_norm_forward(delta, normed, saved.mean, saved.rstd,
                                       {.x = seam.placement == NormPlacement::kPost ? stream.normed : stream.sum,
                                        .delta = delta,
                                        .dropout = pass.active(seam.dropout),
                                        .gamma = pass.weights[seam.norm.gamma],
                                        .beta = pass.weights[seam.norm.beta]});
    return {.normed = normed, .sum = delta};
}

void seam_backward(const BackwardPass& pass, const Seam& seam, const NormSaved& saved, const StreamGradient& gradient) {
    const Tensor& dresidual = seam.placement == NormPlacement::kPost ? gradient.normed : gradient.sum;
    pass.backend.residual_norm_backward({.dx = dresidual,
                                         .ddelta = gradient.branch,
                                         .ddelta_sum = pass.gradients[seam.delta_bias],
                                         .dgamma = pass.gradients[seam.norm.gamma],
                                         .dbeta = pass.gradients[seam.norm.beta]},
                                        {.dy = gradient.normed,
                                         .dy_branch = gradient.through,
                                         .dsum_above = gradient.sum,
                                         .sum = saved.sum,
                                         .mean = saved.mean,
                                         .rstd = saved.rstd,
                                         .gamma = pass.weights[seam.norm.gamma],
                                         .dropout = seam.dropout});
}

Tensor part_input_gradient(const Seam& seam, const StreamGradient& gradient) {
    return seam.placement == NormPlacement::kPost ? gradient.branch : gradient.normed;
}

void join_branch(const Seam& seam, StreamGradient& gradient) {
    if (seam.placement == NormPlacement::kPost) gradient.through = gradient.branch;
}

Tensor whole_gradient(const BackwardPass& pass, const StreamGradient& gradient) {
    if (!gradient.through.empty()) pass.backend.add(gradient.normed, gradient.normed, gradient.through);
    return gradient.normed;
}

Stream opening_norm_forward(const ForwardPass& pass, const Norm& norm, const Tensor& x, NormSaved& saved) {
    saved = {.sum = x, .mean = pass.statistics(1, x.rows), .rstd = pass.statistics(1, x.rows)};
    const Tensor normed = pass.activations(x.rows, x.columns);
    pass.backend.residual_norm_forward({}, normed, saved.mean, saved.rstd,
                                       {.x = x, .gamma = pass.weights[norm.gamma], .beta = pass.weights[norm.beta]});
    return {.normed = normed, .sum = x};
}

void opening_norm_backward(const BackwardPass& pass, const Norm& norm, const NormSaved& saved,
                           const StreamGradient& gradient) {
    pass.backend.residual_norm_backward(
        {.dx = gradient.sum, .dgamma = pass.gradients[norm.gamma], .dbeta = pass.gradients[norm.beta]},
        {.dy = gradient.normed,
         .dsum_above = gradient.sum,
         .sum = saved.sum,
         .mean = saved.mean,
         .rstd = saved.rstd,
         .gamma = pass.weights[norm.gamma]});
}

}  // namespace duologue
