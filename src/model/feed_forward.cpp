// Two matrix products with the activation fused into the first, and its derivative into the second's gradient.
#include "model/feed_forward.h"

namespace duologue {

FeedForward declare_feed_forward(ParameterTable& table, const std::string& name, std::int64_t width,
                                 std::int64_t hidden, Activation activation) {
    FeedForward layer{.hidden = hidden, .activation = activation, .fc1 = {}, .fc2 = {}};
    layer.fc2 = declare_linear(table, name + ".fc2", width, hidden, width + hidden);
    layer.fc1 = declare_linear(table, name + ".fc1", hidden, width, width + hidden);
    return layer;
}

Tensor feed_forward_forward(const ForwardPass& pass, const FeedForward& layer, const Tensor& x,
                            FeedForwardSaved& saved) {
    const Epilogue epilogue = layer.activation == Activation::kRelu ? Epilogue::kBiasRelu : Epilogue::kBiasGelu;
    saved = {.x = x, .hidden = pass.activations(x.rows, layer.hidden), .aux = {}};
    if (pass.mode == Mode::kTrain) {
        saved.aux =
            pass.arena.allocate_vector(DataType::kU8, pass.backend.aux_bytes(epilogue, x.type, x.rows, layer.hidden));
    }
    pass.backend.matmul(saved.hidden, {.a = x,
                                       .b = pass.weights[layer.fc1.weight],
                                       .transpose_b = Transpose::kYes,
                                       .epilogue = epilogue,
                                       .bias = pass.weights[layer.fc1.bias],
                                       .aux = saved.aux});
    const Tensor delta = pass.activations(x.rows, x.columns);
    linear_forward(pass, layer.fc2, delta, saved.hidden);
    return delta;
}

void feed_forward_backward(const BackwardPass& pass, const FeedForward& layer, const FeedForwardSaved& saved,
                           const Tensor& dx, const Tensor& ddelta) {
    const Arena::Scope scope(pass.arena);
    linear_weight_gradient(pass, layer.fc2, ddelta, saved.hidden);
    const Tensor dhidden = pass.activations(saved.x.rows, layer.hidden);
    pass.backend.matmul(dhidden,
                        {.a = ddelta,
                         .b = pass.weights[layer.fc2.weight],
                         .epilogue = layer.activation == Activation::kRelu ? Epilogue::kReluGrad : Epilogue::kGeluGrad,
                         .aux = saved.aux});
    linear_gradients(pass, layer.fc1, dhidden, saved.x);
    linear_input_gradient(pass, layer.fc1, dx, dhidden);
}

}  // namespace duologue
