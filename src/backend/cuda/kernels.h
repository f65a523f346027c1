// The launchers of this project's own kernels. Operands are checked already; each returns the status of its launch.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "duologue/backend/backend.h"
#include "duologue/core/tensor.h"

namespace duologue::cuda {

/// Device memory that a kernel may use until the next one on the same stream.
struct Workspace {
    void* data = nullptr;
    std::int64_t bytes = 0;
};

/// What every launch is handed.
struct Launch {
    cudaStream_t stream = nullptr;
    int multiprocessors = 1;
    Workspace workspace;
    const std::uint64_t* random_key = nullptr;  ///< in device memory, so that captured graphs see its changes
};

// --- elementwise.cu
[[nodiscard]] cudaError_t set_random_key(const Launch& launch, std::uint64_t* random_key, std::uint64_t value);
[[nodiscard]] cudaError_t add(const Launch& launch, const Tensor& y, const Tensor& a, const Tensor& b);
[[nodiscard]] cudaError_t cast(const Launch& launch, const Tensor& y, const Tensor& x);
[[nodiscard]] cudaError_t dropout(const Launch& launch, const Tensor& y, const Tensor& x, const Dropout& dropout);

// --- epilogue.cu
/// y[M,N] = epilogue(sums). ReLU's aux holds one bit per element, the lowest of a byte first; GELU's holds the values
/// before the activation in y's type.
struct EpilogueOperands {
    Tensor y;
    Tensor sums;  ///< f32 [M,N], contiguous
    Tensor bias;
    void* aux = nullptr;
    std::int64_t aux_stride = 0;  ///< bytes of a row
    Epilogue epilogue = Epilogue::kNone;
};
[[nodiscard]] cudaError_t apply_epilogue(const Launch& launch, const EpilogueOperands& operands);

// --- gemm.cu
/// y = op(a) op(b), or +=, for any shape, stride and alignment: for what cuBLASLt does not take. Ignores the epilogue.
[[nodiscard]] cudaError_t plain_matmul(const Launch& launch, const Tensor& y, const Matmul& operation);

// --- reduction.cu
[[nodiscard]] cudaError_t column_sum(const Launch& launch, const Tensor& db, const Tensor& dy, Write write);
[[nodiscard]] cudaError_t sum(const Launch& launch, const Tensor& y, const Tensor& x, Write write);
[[nodiscard]] cudaError_t sum_squares(const Launch& launch, const Tensor& y, const Tensor& x, Write write);

// --- norm.cu, norm_backward.cu
inline constexpr std::int64_t kMaxNormColumns = 4096;  ///< of a row that the norm's kernels take
[[nodiscard]] cudaError_t residual_norm_forward(const Launch& launch, const Tensor& sum, const Tensor& y,
                                                const Tensor& mean, const Tensor& rstd, const ResidualNorm& operation);
[[nodiscard]] cudaError_t residual_norm_backward(const Launch& launch, const ResidualNormGradients& gradients,
                                                 const ResidualNormBackward& operation);

// --- embedding.cu
[[nodiscard]] cudaError_t embedding_forward(const Launch& launch, const Tensor& y, const Embedding& operation);
/// Bytes of workspace that embedding_backward takes for this shape.
[[nodiscard]] std::int64_t embedding_workspace_bytes(std::int64_t rows, std::int64_t columns);
[[nodiscard]] cudaError_t embedding_backward(const Launch& launch, const Tensor& dtable, const Tensor& dposition_table,
                                             const Tensor& dy, const Embedding& operation);

// --- loss.cu
[[nodiscard]] cudaError_t cross_entropy(const Launch& launch, const Tensor& losses, const Tensor& logits,
                                        const Tensor& targets, float smoothing, LossGradient gradient);

// --- optimizer.cu
[[nodiscard]] cudaError_t adamw(const Launch& launch, const AdamW& operation);

// --- attention.cu, attention_backward.cu
inline constexpr std::int64_t kMaxHeadColumns = 256;  ///< of a head that our own attention takes
[[nodiscard]] cudaError_t attention_forward(const Launch& launch, const Tensor& y, const Tensor& stats,
                                            const Attention& operation);
[[nodiscard]] cudaError_t attention_decode(const Launch& launch, const Tensor& y, const AttentionDecode& operation);
struct AttentionGradients {
    Tensor dq;
    Tensor dk;
    Tensor dv;
    Tensor dy;
    Tensor y;
    Tensor stats;
    float* products = nullptr;  ///< [Nq,H], scratch: dy . y of every query and head
};
[[nodiscard]] cudaError_t attention_backward(const Launch& launch, const AttentionGradients& gradients,
                                             const Attention& operation);

// --- tensor_core_attention.cu, tensor_core_attention_backward.cu: what the above do where they take it
inline constexpr std::int64_t kMaxTensorCoreHeadColumns = 128;
/// Whether attention on tensor cores takes such heads: bf16, a multiple of 16 columns, kMaxTensorCoreHeadColumns at
/// most. Its operands' rows have to begin at multiples of 16 bytes.
[[nodiscard]] bool takes_head(DataType type, std::int64_t head_columns);
[[nodiscard]] cudaError_t tensor_core_attention_forward(const Launch& launch, const Tensor& y, const Tensor& stats,
                                                        const Attention& operation);
[[nodiscard]] cudaError_t tensor_core_attention_backward(const Launch& launch, const AttentionGradients& gradients,
                                                         const Attention& operation);

}  // namespace duologue::cuda
