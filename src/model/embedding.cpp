// Token and position embeddings.
#include "model/embedding.h"

#include <cmath>

namespace duologue {

std::vector<float> sinusoidal_positions(std::int64_t length, std::int64_t width) {
    std::vector<float> table(static_cast<std::size_t>(length * width));
    const std::int64_t half = width / 2;
    for (std::int64_t position = 0; position < length; ++position) {
        float* row = table.data() + position * width;
        for (std::int64_t j = 0; j < half; ++j) {
            const double exponent = 2.0 * static_cast<double>(j) / static_cast<double>(width);
            const double angle = static_cast<double>(position) / std::pow(10000.0, exponent);
            row[j] = static_cast<float>(std::sin(angle));
            row[half + j] = static_cast<float>(std::cos(angle));
        }
    }
    return table;
}

namespace {

Embedding operation_of(const EmbeddingLayer& layer, const ParameterViews& weights, const PackedRows& rows,
                       const Tensor& position_table, const Dropout& dropout) {
    const Tensor table = weights[layer.table];
    return {.tokens = rows.tokens,
            .positions = rows.positions,
            .table = table,
            .position_table = position_table,
            .scale = std::sqrt(static_cast<float>(table.columns)),
            .dropout = dropout};
}

}  // namespace

Tensor embedding_forward(const ForwardPass& pass, const EmbeddingLayer& layer, const PackedRows& rows,
                         const Tensor& position_table) {
    const Tensor x = pass.activations(rows.tokens.columns, position_table.columns);
    pass.backend.embedding_forward(x,
                                   operation_of(layer, pass.weights, rows, position_table, pass.active(layer.dropout)));
    return x;
}

void embedding_backward(const BackwardPass& pass, const EmbeddingLayer& layer, const PackedRows& rows,
                        const Tensor& position_table, const Tensor& dx) {
    pass.backend.embedding_backward(pass.gradients[layer.table], {}, dx,
                                    operation_of(layer, pass.weights, rows, position_table, layer.dropout));
}

}  // namespace duologue
