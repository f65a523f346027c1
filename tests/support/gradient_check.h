// Central differences: is an analytic gradient the gradient of this function?
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>

#include "duologue/core/tensor.h"
#include "support/host_matrix.h"

namespace duologue {

struct GradientCheck {
    double step = 0.02;         ///< of x; f32 functions want 1e-2 to 1e-1
    double tolerance = 1e-4;    ///< of the difference, relative to the largest element of the gradient
    double floor = 1e-4;        ///< what counts as the largest element at least
    std::int64_t samples = -1;  ///< how many elements are tried, spread evenly; -1: all
};

/// Moves elements of `x`, f32 in host memory, and compares (f(x+h) - f(x-h)) / 2h, with the error terms in h^2 removed
/// by a second pair at 2h, with `analytic`. `x` is put back. `f` reads `x` anew at every call.
[[nodiscard]] testing::AssertionResult is_gradient(const std::function<double()>& f, const Tensor& x,
                                                   const HostMatrix& analytic, const GradientCheck& check = {});

}  // namespace duologue
