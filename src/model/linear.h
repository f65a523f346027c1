// Linear: y = x W^T + b, forward and backward.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "model/pass.h"

namespace duologue {

/// Entries of the parameter table: weight [out, in], bias [out].
struct Linear {
    std::size_t weight = 0;
    std::size_t bias = 0;
};

/// Appends "<name>.weight" and "<name>.bias". `fans` = fan_in + fan_out of Xavier's bound: that of one matrix where
/// several are stacked into one weight.
[[nodiscard]] Linear declare_linear(ParameterTable& table, const std::string& name, std::int64_t rows,
                                    std::int64_t columns, std::int64_t fans);

/// y [N,out] = x [N,in] W^T + b.
void linear_forward(const ForwardPass& pass, const Linear& linear, const Tensor& y, const Tensor& x);

/// dW += dy^T x, for dy [N,out] (may be strided) and x [N,in].
void linear_weight_gradient(const BackwardPass& pass, const Linear& linear, const Tensor& dy, const Tensor& x);
/// The same, and db += column sums of dy.
void linear_gradients(const BackwardPass& pass, const Linear& linear, const Tensor& dy, const Tensor& x);

/// dx [N,in] = dy [N,out] W; dx is not dy.
void linear_input_gradient(const BackwardPass& pass, const Linear& linear, const Tensor& dx, const Tensor& dy);

}  // namespace duologue
