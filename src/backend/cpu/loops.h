// The operations of Backend that are neither matmul nor attention, as passes over rows. Shapes are checked by the
// caller.
#pragma once

#include <cstdint>

#include "backend/cpu/workspace.h"
#include "duologue/backend/backend.h"

namespace duologue::cpu {

// norm.cpp
void residual_norm_forward(Workspace& workspace, std::uint64_t random_key, const Tensor& sum, const Tensor& y,
                           const Tensor& mean, const Tensor& rstd, const ResidualNorm& operation);
void residual_norm_backward(Workspace& workspace, std::uint64_t random_key, const ResidualNormGradients& gradients,
                            const ResidualNormBackward& operation);

// embedding.cpp
void embedding_forward(Workspace& workspace, std::uint64_t random_key, const Tensor& y, const Embedding& operation);
void embedding_backward(Workspace& workspace, std::uint64_t random_key, const Tensor& dtable,
                        const Tensor& dposition_table, const Tensor& dy, const Embedding& operation);

// cross_entropy.cpp
void cross_entropy(Workspace& workspace, const Tensor& losses, const Tensor& logits, const Tensor& targets,
                   float smoothing, LossGradient gradient);

// elementwise.cpp
void zero(int threads, const Tensor& y);
void copy(int threads, const Tensor& y, const Tensor& x);
void add(int threads, const Tensor& y, const Tensor& a, const Tensor& b);
void cast(int threads, const Tensor& y, const Tensor& x);
void dropout(int threads, std::uint64_t random_key, const Tensor& y, const Tensor& x, const Dropout& dropout);
void adamw(int threads, const AdamW& operation);

// reduction.cpp
void column_sum(Workspace& workspace, const Tensor& db, const Tensor& dy, Write write);
void sum(Workspace& workspace, const Tensor& y, const Tensor& x, Write write);
void sum_squares(Workspace& workspace, const Tensor& y, const Tensor& x, Write write);
/// total[columns] (+)= the sum of `count` f32 rows of `columns`, in the order of the rows.
void add_partial_rows(int threads, float* total, const float* partials, std::int64_t count, std::int64_t columns,
                      Write write);

}  // namespace duologue::cpu
