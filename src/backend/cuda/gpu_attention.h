// GpuAttention: attention over sequences, by cuDNN or by our own kernels.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "backend/cuda/cudnn_attention.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/trial.h"
#include "duologue/backend/cuda_backend.h"

namespace duologue::cuda {

/// Heads that are too wide for our own kernels are Error kConfiguration.
void require_head(const Attention& operation);

class GpuAttention {
   public:
    /// `capability` is the card's, 90 for sm_90.
    GpuAttention(const Launch& launch, int capability, const CudaOptions& options);

    // As Backend's. Where AttentionChoice::kAuto leaves both, the first call times them, and the faster computes this
    // call and all that follow: forward alone where nothing is kept for a backward pass, else both passes.
    void forward(const Tensor& y, const Tensor& stats, const Attention& operation);
    void backward(const AttentionGradients& gradients, const Tensor& scratch, const Attention& operation);
    /// Enough for either while both are left.
    [[nodiscard]] std::int64_t scratch_bytes(const Attention& operation) const;

    [[nodiscard]] std::string description() const;

   private:
    enum class Path : std::uint8_t { kOwn, kCudnn };

    /// Absent: both take it, and have not been timed.
    [[nodiscard]] std::optional<Path> path_of(const Attention& operation) const;
    [[nodiscard]] Path faster(const Tensor& y, const Tensor& stats, const Attention& operation) const;
    void run_forward(Path path, const Tensor& y, const Tensor& stats, const Attention& operation) const;
    void run_backward(Path path, const AttentionGradients& gradients, const Tensor& scratch,
                      const Attention& operation) const;

    Launch launch_;
    AttentionChoice choice_;
    Deterministic deterministic_;
    Stopwatch stopwatch_;
    std::unique_ptr<CudnnAttention> cudnn_;  // absent with AttentionChoice::kOwn
    std::optional<Path> faster_;
};

}  // namespace duologue::cuda
