// The three matrix products of a linear layer.
#include "model/linear.h"

namespace duologue {

Linear declare_linear(ParameterTable& table, const std::string& name, std::int64_t rows, std::int64_t columns,
                      std::int64_t fans) {
    Linear linear;
    linear.weight = table.add(name + ".weight", rows, columns, Initializer::kXavierUniform, static_cast<double>(fans));
    linear.bias = table.add(name + ".bias", 1, rows, Initializer::kZero, 0.0);
    return linear;
}

void linear_forward(const ForwardPass& pass, const Linear& linear, const Tensor& y, const Tensor& x) {
    pass.backend.matmul(y, {.a = x,
                            .b = pass.weights[linear.weight],
                            .transpose_b = Transpose::kYes,
                            .epilogue = Epilogue::kBias,
                            .bias = pass.weights[linear.bias]});
}

void linear_weight_gradient(const BackwardPass& pass, const Linear& linear, const Tensor& dy, const Tensor& x) {
    pass.backend.matmul(pass.gradients[linear.weight],
                        {.a = dy, .b = x, .transpose_a = Transpose::kYes, .write = Write::kAccumulate});
}

void linear_gradients(const BackwardPass& pass, const Linear& linear, const Tensor& dy, const Tensor& x) {
    pass.backend.matmul(pass.gradients[linear.weight], {.a = dy,
                                                        .b = x,
                                                        .transpose_a = Transpose::kYes,
                                                        .write = Write::kAccumulate,
                                                        .a_sums = pass.gradients[linear.bias]});
}

void linear_input_gradient(const BackwardPass& pass, const Linear& linear, const Tensor& dx, const Tensor& dy) {
    pass.backend.matmul(dx, {.a = dy, .b = pass.weights[linear.weight]});
}

}  // namespace duologue
