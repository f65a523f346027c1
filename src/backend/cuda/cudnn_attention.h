// CudnnAttention: bf16 attention over packed sequences by cuDNN, its plans kept by what they are compiled for.
#pragma once

#include <cstdint>
#include <map>

#include "backend/cuda/cudnn_plan.h"
#include "backend/cuda/kernels.h"

namespace duologue::cuda {

/// What a call of `operation` is given to cuDNN as. Tiled packing goes as it lies; anything else is moved into rows of
/// our own, where no sequence is empty and whole tiles can be read behind every one: `slots` of them in so many rows.
struct CudnnShape {
    Packing packing = Packing::kPlain;
    std::int64_t slots = 0;
    std::int64_t q_rows = 0;
    std::int64_t kv_rows = 0;
};
[[nodiscard]] CudnnShape cudnn_shape(const Attention& operation);

/// The strides of the gradients are taken to be those of what they are gradients of, y's and dy's to be the width.
[[nodiscard]] AttentionDescription describe(const Attention& operation, AttentionPass pass,
                                            Deterministic deterministic);

class CudnnAttention {
   public:
    /// `capability` is the card's, 90 for sm_90.
    CudnnAttention(const Launch& launch, int capability, Deterministic deterministic);

    // As Backend's, for bf16. A shape's first call compiles its plan, about half a second. `mask_dump` f32
    // [slots * heads * max_q_length, max_kv_length] of the plan's description, for tests: what dropout keeps.
    void forward(const Tensor& y, const Tensor& stats, const Attention& operation, const Tensor& mask_dump = {});
    void backward(const AttentionGradients& gradients, const Tensor& scratch, const Attention& operation,
                  const Tensor& mask_dump = {});
    [[nodiscard]] std::int64_t scratch_bytes(const Attention& operation);

   private:
    [[nodiscard]] const CudnnPlan& plan_of(const AttentionDescription& description);

    Launch launch_;
    int capability_;
    Deterministic deterministic_;
    CudnnHandle handle_;
    std::map<AttentionDescription, CudnnPlan> plans_;
};

}  // namespace duologue::cuda
