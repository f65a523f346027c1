// Attention over packed sequences, one (sequence, head) at a time on packed panels. Shapes are checked by the caller.
#pragma once

#include <cstdint>

#include "backend/cpu/gemm_kernel.h"
#include "backend/cpu/workspace.h"
#include "duologue/backend/backend.h"

namespace duologue::cpu {

/// What the operations of a back end share.
struct AttentionContext {
    Workspace& workspace;
    const MicroKernel& kernel;
    std::uint64_t random_key;
};

/// Dropout acts on element (row of query * H + head) * Nk + row of key.
void attention_forward(const AttentionContext& context, const Tensor& y, const Tensor& stats,
                       const Attention& operation);

struct AttentionGradients {
    const Tensor& dq;
    const Tensor& dk;
    const Tensor& dv;
    const Tensor& dy;
    const Tensor& stats;
};

/// Every (sequence, head) owns its part of dq, dk and dv, so nothing is shared and the order of sums is fixed.
void attention_backward(const AttentionContext& context, const AttentionGradients& gradients,
                        const Attention& operation);

void attention_decode(Workspace& workspace, const Tensor& y, const AttentionDecode& operation);

}  // namespace duologue::cpu
