// AdamW in one pass over the flat buffers; whether and how far to step is decided on the device.
#include <cmath>

#include "backend/cuda/launch.cuh"

namespace duologue::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kBlocksPerMultiprocessor = 5;  // all of the grid at once

template <class T>
struct AdamWOperands {
    float* values;
    T* weights;
    float* first;
    float* second;
    const float* gradients;
    const float* divisor;
    const float* square_sum;
    const float* loss;  // may be null
    std::int64_t elements;
    float learning_rate;
    float beta1;
    float beta2;
    float epsilon;
    float weight_decay;
    float max_norm;
    float correction1;  // 1 / (1 - beta1^step)
    float correction2;  // 1 / (1 - beta2^step)
};

template <Access kAccess, class T>
__global__ void __launch_bounds__(kThreads, kBlocksPerMultiprocessor) adamw_kernel(AdamWOperands<T> at) {
    const float divisor = *at.divisor;
    const float square_sum = *at.square_sum;
    if (!isfinite(square_sum) || !(divisor > 0.0F)) return;
    if (at.loss != nullptr && !isfinite(*at.loss)) return;
    const float norm = sqrtf(square_sum) / divisor;
    const float clip = at.max_norm > 0.0F && norm > at.max_norm ? at.max_norm / norm : 1.0F;
    const float gradient_scale = clip / divisor;
    const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads * kQuad;
    for (std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kQuad; i < at.elements;
         i += stride) {
        const std::int64_t count = at.elements - i;
        const Quad gradients = load_quad<kAccess>(at.gradients + i, count);
        Quad values = load_quad<kAccess>(at.values + i, count);
        Quad first = load_quad<kAccess>(at.first + i, count);
        Quad second = load_quad<kAccess>(at.second + i, count);
#pragma unroll
        for (int j = 0; j < kQuad; ++j) {
            const float g = gradients.v[j] * gradient_scale;
            first.v[j] = at.beta1 * first.v[j] + (1.0F - at.beta1) * g;
            second.v[j] = at.beta2 * second.v[j] + (1.0F - at.beta2) * g * g;
            const float direction = first.v[j] * at.correction1 / (sqrtf(second.v[j] * at.correction2) + at.epsilon);
            values.v[j] -= at.learning_rate * (direction + at.weight_decay * values.v[j]);
        }
        store_quad<kAccess>(at.values + i, values, count);
        store_quad<kAccess>(at.first + i, first, count);
        store_quad<kAccess>(at.second + i, second, count);
        if (at.weights != nullptr) store_quad<kAccess>(at.weights + i, values, count);
    }
}

}  // namespace

cudaError_t adamw(const Launch& launch, const AdamW& operation) {
    const std::int64_t elements = operation.values.elements();
    if (elements == 0) return cudaSuccess;
    const auto step = static_cast<double>(operation.step);
    const Access access =
        access_of({operation.values, operation.weights, operation.first, operation.second, operation.gradients});
    return with_access(access, [&](auto constant) {
        return with_type(operation.weights.type, [&](auto element) {
            using T = decltype(element);
            const AdamWOperands<T> at{
                .values = operation.values.as<float>(),
                .weights = operation.weights.as<T>(),
                .first = operation.first.as<float>(),
                .second = operation.second.as<float>(),
                .gradients = operation.gradients.as<float>(),
                .divisor = operation.divisor.as<float>(),
                .square_sum = operation.square_sum.as<float>(),
                .loss = operation.loss.as<float>(),
                .elements = elements,
                .learning_rate = operation.learning_rate,
                .beta1 = operation.beta1,
                .beta2 = operation.beta2,
                .epsilon = operation.epsilon,
                .weight_decay = operation.weight_decay,
                .max_norm = operation.max_norm,
                .correction1 = static_cast<float>(1.0 / (1.0 - std::pow(static_cast<double>(operation.beta1), step))),
                .correction2 = static_cast<float>(1.0 / (1.0 - std::pow(static_cast<double>(operation.beta2), step)))};
            const unsigned grid = grid_for(launch, divided_up(elements, kQuad), kThreads, kBlocksPerMultiprocessor);
            return launch_kernel(launch.stream, {grid, kThreads}, adamw_kernel<decltype(constant)::kValue, T>, at);
        });
    });
}

}  // namespace duologue::cuda
