// Matrix products of the small model, GFLOP/s by every route that this processor can take.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <string>
#include <vector>

#include "backend/cpu/cpu_backend.h"
#include "duologue/core/random.h"

namespace duologue {

namespace {

enum class Product : std::uint8_t { kForward, kInputGradient, kWeightGradient };

/// A linear layer over `rows` tokens, weights [outputs, inputs].
struct Layer {
    std::int64_t rows;
    std::int64_t inputs;
    std::int64_t outputs;
};

constexpr Layer kLayers[] = {{4096, 256, 768},  {4096, 256, 256},   {4096, 256, 1024},
                             {4096, 1024, 256}, {1024, 256, 16000}, {2048, 1024, 1024}};

Tensor filled(Backend& backend, DeviceBuffer& buffer, DataType type, std::int64_t rows, std::int64_t columns) {
    buffer = backend.allocate(rows * columns * size_of(type));
    const Tensor tensor = make_tensor(buffer.data(), type, rows, columns);
    RandomStream random(1);
    for (std::int64_t i = 0; i < tensor.elements(); ++i) {
        const auto value = static_cast<float>(random.uniform() - 0.5);
        if (type == DataType::kBf16) {
            tensor.as<Bfloat16>()[i] = Bfloat16(value);
        } else {
            tensor.as<float>()[i] = value;
        }
    }
    return tensor;
}

double seconds_of(Backend& backend, const Tensor& y, const Matmul& operation) {
    const auto now = [] { return std::chrono::steady_clock::now(); };
    backend.matmul(y, operation);
    double best = 1e30;
    for (int i = 0; i < 7; ++i) {
        const auto begin = now();
        backend.matmul(y, operation);
        best = std::min(best, std::chrono::duration<double>(now() - begin).count());
    }
    return best;
}

double gflops(Backend& backend, DataType type, const Layer& layer, Product product) {
    DeviceBuffer buffers[3];
    const Tensor x = filled(backend, buffers[0], type, layer.rows, layer.inputs);
    const Tensor dy = filled(backend, buffers[1], type, layer.rows, layer.outputs);
    const bool onto_weights = product == Product::kWeightGradient;
    const Tensor w = filled(backend, buffers[2], onto_weights ? DataType::kF32 : type, layer.outputs, layer.inputs);
    double seconds = 0.0;
    if (product == Product::kForward)
        seconds = seconds_of(backend, dy, {.a = x, .b = w, .transpose_b = Transpose::kYes});
    if (product == Product::kInputGradient) seconds = seconds_of(backend, x, {.a = dy, .b = w});
    if (onto_weights) {
        seconds =
            seconds_of(backend, w, {.a = dy, .b = x, .transpose_a = Transpose::kYes, .write = Write::kAccumulate});
    }
    return 2e-9 * static_cast<double>(layer.rows * layer.inputs * layer.outputs) / seconds;
}

/// Code that only tests run.
bool stands_in(cpu::MatmulRoute route) {
    return route == cpu::MatmulRoute::kWideOnAvx2 || route == cpu::MatmulRoute::kPairsOnAvx2;
}

void run(int threads) {
    for (const DataType type : {DataType::kF32, DataType::kBf16}) {
        for (const cpu::MatmulRoute route : cpu::kAllRoutes) {
            if (!cpu::can_take(route, type) || stands_in(route)) continue;
            cpu::CpuOptions options = cpu::best_options(threads);
            (type == DataType::kBf16 ? options.bf16_route : options.f32_route) = route;
            const auto backend = cpu::make_cpu_backend(options);
            fmt::print("{} {}: GFLOP/s forward, input gradient, weight gradient\n", name_of(type), cpu::name_of(route));
            for (const Layer& layer : kLayers) {
                fmt::print("  {:5} x {:5} -> {:5}: {:7.1f} {:7.1f} {:7.1f}\n", layer.rows, layer.inputs, layer.outputs,
                           gflops(*backend, type, layer, Product::kForward),
                           gflops(*backend, type, layer, Product::kInputGradient),
                           gflops(*backend, type, layer, Product::kWeightGradient));
            }
        }
    }
}

}  // namespace

}  // namespace duologue

int main(int argument_count, char** arguments) {
    duologue::run(argument_count > 1 ? std::atoi(arguments[1]) : 0);
    return 0;
}
