// Residual: the seam between two parts of a block, where the residual is added and a layer norm follows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "duologue/config/config.h"
#include "model/pass.h"

namespace duologue {

// One fused operation serves both placements, s = r + dropout(delta), u = LN(s), u being what the next part reads:
//   post-norm (Vaswani et al. 2017): r = the u before, and LN is the norm of the part that made delta;
//   pre-norm (Xiong et al. 2020):    r = the s before, and LN is the norm of the part that comes next (or the last
//   one).

/// Entries: gamma [C] and beta [C].
struct Norm {
    std::size_t gamma = 0;
    std::size_t beta = 0;
};

[[nodiscard]] Norm declare_norm(ParameterTable& table, const std::string& name, std::int64_t width);

struct Seam {
    NormPlacement placement = NormPlacement::kPost;
    Norm norm;
    Dropout dropout;             ///< on delta
    std::size_t delta_bias = 0;  ///< entry of the bias [C] that delta ends with: its gradient is summed on the way
};

/// What flows from part to part, act [N,C].
struct Stream {
    Tensor normed;  ///< u: the next part's input
    Tensor sum;     ///< s: the residual stream
};

/// Gradients of a Stream, and room for that of a part's output; act [N,C]. Updated in place from part to part.
struct StreamGradient {
    Tensor normed;
    Tensor through;  ///< post-norm, in front of a part: what came through it; the gradient is `normed` plus this
    Tensor sum;      ///< pre-norm only
    Tensor branch;   ///< of delta, then (post-norm) of the part's input
};

struct NormSaved {
    Tensor sum;   ///< act [N,C]
    Tensor mean;  ///< f32 [N]
    Tensor rstd;  ///< f32 [N]
};

/// `delta` [N,C] becomes the sum in place.
[[nodiscard]] Stream seam_forward(const ForwardPass& pass, const Seam& seam, const Stream& stream, const Tensor& delta,
                                  NormSaved& saved);
/// In: gradients of the seam's outputs. Out: gradient.branch is that of delta; the residual's stands in
/// gradient.normed (post) or gradient.sum (pre). Gradients of the norm and of delta's bias are added.
void seam_backward(const BackwardPass& pass, const Seam& seam, const NormSaved& saved, const StreamGradient& gradient);
/// Where a part's backward pass has to write the gradient of its input.
[[nodiscard]] Tensor part_input_gradient(const Seam& seam, const StreamGradient& gradient);
/// What came through the part joins what came past it: gradient is then that of the stream before the part.
void join_branch(const Seam& seam, StreamGradient& gradient);
/// Of the stream's normed, in one tensor.
[[nodiscard]] Tensor whole_gradient(const BackwardPass& pass, const StreamGradient& gradient);

/// The norm that opens a pre-norm stack: u = LN(x), s = x.
[[nodiscard]] Stream opening_norm_forward(const ForwardPass& pass, const Norm& norm, const Tensor& x, NormSaved& saved);
/// gradient.sum becomes dx.
void opening_norm_backward(const BackwardPass& pass, const Norm& norm, const NormSaved& saved,
                           const StreamGradient& gradient);

}  // namespace duologue
