// Epilogues on eight columns at a time.
#include "backend/cpu/gemm_epilogue.h"

#include "backend/cpu/simd.h"
#include "duologue/core/error.h"

namespace duologue::cpu {

namespace {

constexpr float kGeluScale = 0.7978845608F;  // sqrt(2 / pi)
constexpr float kGeluCubic = 0.044715F;

/// g = sigmoid(2u) = (1 + tanh u) / 2 with u = sqrt(2/pi) (x + 0.044715 x^3), and 1 - g, neither by cancellation.
struct GeluGate {
    F8 open;
    F8 closed;
};

GeluGate gelu_gate(F8 x) {
    const F8 u = broadcast(kGeluScale) * multiply_add(broadcast(kGeluCubic) * x * x, x, x);
    const F8 e = exp(broadcast(-2.0F) * u);
    const F8 open = broadcast(1.0F) / (broadcast(1.0F) + e);
    return {open, e * open};
}

F8 gelu(F8 x) { return x * gelu_gate(x).open; }

/// d/dx x g(x) = g + x g (1 - g) 2 u'
F8 gelu_gradient(F8 x) {
    const GeluGate gate = gelu_gate(x);
    const F8 slope = broadcast(2.0F * kGeluScale) * multiply_add(broadcast(3.0F * kGeluCubic) * x, x, broadcast(1.0F));
    return gate.open + x * gate.open * gate.closed * slope;
}

std::uint8_t positive_bits(F8 x) {
    return static_cast<std::uint8_t>(_mm256_movemask_ps(_mm256_cmp_ps(x.v, _mm256_setzero_ps(), _CMP_GT_OQ)));
}

F8 where_bits(F8 x, std::uint8_t bits) {
    const __m256i lane_bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    const __m256i chosen = _mm256_and_si256(_mm256_set1_epi32(bits), lane_bit);
    return {_mm256_and_ps(x.v, _mm256_castsi256_ps(_mm256_cmpeq_epi32(chosen, lane_bit)))};
}

constexpr bool has_bias(Epilogue e) {
    return e == Epilogue::kBias || e == Epilogue::kBiasRelu || e == Epilogue::kBiasGelu;
}

std::int64_t mask_bytes_per_row(std::int64_t columns) { return (columns + 7) / 8; }

/// Y: the type of y; X: the type of the operands and the bias.
template <class Y, class X, Epilogue E>
void store_tile(const Tensor& y, const Matmul& operation, const SumTile& tile) {
    const X* bias = has_bias(E) ? operation.bias.as<X>() + tile.column : nullptr;
    const bool keeps = !operation.aux.empty();
    const std::int64_t mask_stride = mask_bytes_per_row(y.columns);
    for (std::int64_t r = 0; r < tile.rows; ++r) {
        const std::int64_t row = tile.row + r;
        Y* out = y.as<Y>() + row * y.row_stride + tile.column;
        auto* mask = keeps ? operation.aux.as<std::uint8_t>() + row * mask_stride + tile.column / 8 : nullptr;
        Y* input = keeps ? operation.aux.as<Y>() + row * y.columns + tile.column : nullptr;
        const float* sums = tile.sums + r * tile.stride;
        for_each_vector(tile.columns, [&](std::int64_t j, auto lanes) {
            F8 value = load(sums + j);
            if constexpr (has_bias(E)) value = value + load(bias + j, lanes);
            if constexpr (E == Epilogue::kBiasRelu) {
                value = max(zeros(), value);
                if (keeps) mask[j / 8] = positive_bits(value);
            }
            if constexpr (E == Epilogue::kReluGrad) value = where_bits(value, mask[j / 8]);
            if constexpr (E == Epilogue::kBiasGelu) {
                if (keeps) store(input + j, value, lanes);
                value = gelu(value);
            }
            if constexpr (E == Epilogue::kGeluGrad) value = value * gelu_gradient(load(input + j, lanes));
            store(out + j, value, lanes);
        });
    }
}

void add_tile(const Tensor& y, const Matmul&, const SumTile& tile) {
    for (std::int64_t r = 0; r < tile.rows; ++r) {
        float* out = y.as<float>() + (tile.row + r) * y.row_stride + tile.column;
        const float* sums = tile.sums + r * tile.stride;
        for_each_vector(tile.columns, [&](std::int64_t j, auto lanes) {
            store(out + j, load(out + j, lanes) + load(sums + j), lanes);
        });
    }
}

template <class Y, class X>
StoreTile choose_for_types(Epilogue epilogue) {
    switch (epilogue) {
        case Epilogue::kNone:
            return &store_tile<Y, X, Epilogue::kNone>;
        case Epilogue::kBias:
            return &store_tile<Y, X, Epilogue::kBias>;
        case Epilogue::kBiasRelu:
            return &store_tile<Y, X, Epilogue::kBiasRelu>;
        case Epilogue::kBiasGelu:
            return &store_tile<Y, X, Epilogue::kBiasGelu>;
        case Epilogue::kReluGrad:
            return &store_tile<Y, X, Epilogue::kReluGrad>;
        case Epilogue::kGeluGrad:
            return &store_tile<Y, X, Epilogue::kGeluGrad>;
    }
    fail(ErrorCode::kInternal, "a matmul with unknown epilogue {}", static_cast<int>(epilogue));
}

}  // namespace

StoreTile choose_store_tile(const Tensor& y, const Matmul& operation) {
    if (operation.write == Write::kAccumulate) return &add_tile;
    if (operation.a.type == DataType::kF32) return choose_for_types<float, float>(operation.epilogue);
    if (y.type == DataType::kF32) return choose_for_types<float, Bfloat16>(operation.epilogue);
    return choose_for_types<Bfloat16, Bfloat16>(operation.epilogue);
}

std::int64_t epilogue_aux_bytes(Epilogue epilogue, DataType type, std::int64_t rows, std::int64_t columns) {
    switch (epilogue) {
        case Epilogue::kBiasRelu:
        case Epilogue::kReluGrad:
            return rows * mask_bytes_per_row(columns);
        case Epilogue::kBiasGelu:
        case Epilogue::kGeluGrad:
            return rows * columns * size_of(type);
        case Epilogue::kNone:
        case Epilogue::kBias:
            return 0;
    }
    fail(ErrorCode::kInternal, "aux bytes of unknown epilogue {}", static_cast<int>(epilogue));
}

}  // namespace duologue::cpu
