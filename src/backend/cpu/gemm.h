// Matrix products on packed panels: any strides and transpositions, f32 sums, epilogue on tiles that are still in
// cache.
#pragma once

#include <cstdint>

#include "backend/cpu/gemm_kernel.h"
#include "backend/cpu/workspace.h"
#include "duologue/backend/backend.h"

namespace duologue::cpu {

/// Backend::matmul. The order of every sum depends on the shapes only, never on the number of threads.
void multiply(Workspace& workspace, const MicroKernel& kernel, const Tensor& y, const Matmul& operation);

/// The same for at most kFewRows rows (decoding), where reading b once is all the work: nothing is packed.
constexpr std::int64_t kFewRows = 4;
void multiply_few_rows(Workspace& workspace, const Tensor& y, const Matmul& operation);

/// c[a_panels * rows, b_panels * columns] (+)= product of packed panels; c rows `stride` floats apart, padding
/// included.
void multiply_panels(const MicroKernel& kernel, std::int64_t a_panels, std::int64_t b_panels, std::int64_t depth,
                     const float* a, const float* b, float* c, std::int64_t stride, Write write);

}  // namespace duologue::cpu
