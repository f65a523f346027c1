// What an unfused matmul does to its f32 sums: bias, activation or its derivative, and what the derivative needs.
#include "backend/cuda/launch.cuh"

namespace duologue::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kBlocksPerMultiprocessor = 8;

// gelu(z) = z/2 (1 + tanh(u)), u = sqrt(2/pi) (z + 0.044715 z^3) (Hendrycks and Gimpel 2016)
constexpr float kGeluSlope = 0.7978845608028654F;
constexpr float kGeluCubic = 0.044715F;

__device__ __forceinline__ float gelu(float z) {
    return 0.5F * z * (1.0F + tanhf(kGeluSlope * (z + kGeluCubic * z * z * z)));
}

__device__ __forceinline__ float gelu_derivative(float z) {
    const float t = tanhf(kGeluSlope * (z + kGeluCubic * z * z * z));
    return 0.5F * (1.0F + t) + 0.5F * z * (1.0F - t * t) * kGeluSlope * (1.0F + 3.0F * kGeluCubic * z * z);
}

template <class Y, class Act>
struct Operands {
    Y* y;
    const float* sums;
    const Act* bias;
    std::byte* aux;
    std::int64_t y_stride;
    std::int64_t aux_stride;
    std::int64_t rows;
    std::int64_t columns;
};

// One octet of one row; `bits` and `kept` are the octet's places in ReLU's and in GELU's aux.
template <Access kAccess, Epilogue kEpilogue, class Y>
__device__ __forceinline__ void apply(Octet& value, std::uint8_t* bits, Y* kept, std::int64_t count) {
    if constexpr (kEpilogue == Epilogue::kBiasRelu) {
        unsigned mask = 0;
#pragma unroll
        for (int j = 0; j < kOctet; ++j) {
            mask |= j < count && value.v[j] > 0.0F ? 1U << j : 0U;
            // Written so that NaN stays NaN.
            value.v[j] = value.v[j] < 0.0F ? 0.0F : value.v[j];
        }
        if (bits != nullptr) *bits = static_cast<std::uint8_t>(mask);
    } else if constexpr (kEpilogue == Epilogue::kReluGrad) {
        const unsigned mask = *bits;
#pragma unroll
        for (int j = 0; j < kOctet; ++j) value.v[j] = (mask >> j & 1U) != 0U ? value.v[j] : 0.0F;
    } else if constexpr (kEpilogue == Epilogue::kBiasGelu) {
        if (kept != nullptr) store_octet<kAccess>(kept, value, count);
#pragma unroll
        for (int j = 0; j < kOctet; ++j) value.v[j] = gelu(value.v[j]);
    } else if constexpr (kEpilogue == Epilogue::kGeluGrad) {
        const Octet z = load_octet<kAccess>(kept, count);
#pragma unroll
        for (int j = 0; j < kOctet; ++j) value.v[j] *= gelu_derivative(z.v[j]);
    }
}

template <Access kAccess, Epilogue kEpilogue, class Y, class Act>
__global__ void __launch_bounds__(kThreads) epilogue_kernel(Operands<Y, Act> at) {
    const std::int64_t octets = (at.columns + kOctet - 1) / kOctet;
    const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads;
    for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < at.rows * octets;
         i += stride) {
        const std::int64_t row = i / octets;
        const std::int64_t column = i % octets * kOctet;
        const std::int64_t count = at.columns - column;
        Octet value = load_octet<kAccess>(at.sums + row * at.columns + column, count);
        if (at.bias != nullptr) {
            const Octet bias = load_octet<kAccess>(at.bias + column, count);
#pragma unroll
            for (int j = 0; j < kOctet; ++j) value.v[j] += bias.v[j];
        }
        std::byte* aux = at.aux == nullptr ? nullptr : at.aux + row * at.aux_stride;
        auto* bits = aux == nullptr ? nullptr : reinterpret_cast<std::uint8_t*>(aux) + column / 8;
        auto* kept = aux == nullptr ? nullptr : reinterpret_cast<Y*>(aux) + column;
        apply<kAccess, kEpilogue>(value, bits, kept, count);
        store_octet<kAccess>(at.y + row * at.y_stride + column, value, count);
    }
}

template <Access kAccess, Epilogue kEpilogue, class Y, class Act>
cudaError_t run(const Launch& launch, const Operands<Y, Act>& at) {
    const std::int64_t octets = at.rows * divided_up(at.columns, kOctet);
    const unsigned grid = grid_for(launch, octets, kThreads, kBlocksPerMultiprocessor);
    return launch_kernel(launch.stream, {grid, kThreads}, epilogue_kernel<kAccess, kEpilogue, Y, Act>, at);
}

template <Access kAccess, class Y, class Act>
cudaError_t run_any(const Launch& launch, Epilogue epilogue, const Operands<Y, Act>& at) {
    switch (epilogue) {
        case Epilogue::kNone:
        case Epilogue::kBias:
            return run<kAccess, Epilogue::kBias>(launch, at);
        case Epilogue::kBiasRelu:
            return run<kAccess, Epilogue::kBiasRelu>(launch, at);
        case Epilogue::kBiasGelu:
            return run<kAccess, Epilogue::kBiasGelu>(launch, at);
        case Epilogue::kReluGrad:
            return run<kAccess, Epilogue::kReluGrad>(launch, at);
        case Epilogue::kGeluGrad:
            return run<kAccess, Epilogue::kGeluGrad>(launch, at);
    }
    return cudaErrorInvalidValue;
}

}  // namespace

cudaError_t apply_epilogue(const Launch& launch, const EpilogueOperands& operands) {
    const Tensor& y = operands.y;
    if (y.elements() == 0) return cudaSuccess;
    const bool aux_is_wide = operands.aux_stride % 16 == 0 && reinterpret_cast<std::uintptr_t>(operands.aux) % 16 == 0;
    const Access access = aux_is_wide ? access_of({y, operands.sums, operands.bias}) : Access::kNarrow;
    return with_access(access, [&](auto constant) {
        return with_type(y.type, [&](auto result) {
            return with_type(operands.bias.type, [&](auto act) {
                return run_any<decltype(constant)::kValue>(
                    launch, operands.epilogue,
                    Operands<decltype(result), decltype(act)>{.y = y.as<decltype(result)>(),
                                                              .sums = operands.sums.as<float>(),
                                                              .bias = operands.bias.as<decltype(act)>(),
                                                              .aux = static_cast<std::byte*>(operands.aux),
                                                              .y_stride = y.row_stride,
                                                              .aux_stride = operands.aux_stride,
                                                              .rows = y.rows,
                                                              .columns = y.columns});
            });
        });
    });
}

}  // namespace duologue::cuda
