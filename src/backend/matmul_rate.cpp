// Times one large product until a fraction of a second has passed.
#include "duologue/backend/matmul_rate.h"

#include <algorithm>
#include <chrono>
#include <limits>

#include "duologue/core/memory_use.h"

namespace duologue {

double measure_matmul_flops_per_second(Backend& backend, DataType type) {
    constexpr std::int64_t kRows = 2048;
    constexpr std::int64_t kInner = 1024;
    constexpr std::int64_t kColumns = 1024;
    constexpr double kMeasureSeconds = 0.25;
    const DeviceBuffer a = backend.allocate(kRows * kInner * size_of(type));
    const DeviceBuffer b = backend.allocate(kColumns * kInner * size_of(type));
    const DeviceBuffer y = backend.allocate(kRows * kColumns * size_of(type));
    const auto multiply_once = [&] {
        const auto begin = std::chrono::steady_clock::now();
        backend.matmul(make_tensor(y.data(), type, kRows, kColumns),
                       {.a = make_tensor(a.data(), type, kRows, kInner),
                        .b = make_tensor(b.data(), type, kColumns, kInner),
                        .transpose_b = Transpose::kYes});
        backend.synchronize();
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    };
    multiply_once();  // the first run chooses code and touches memory
    double best = std::numeric_limits<double>::infinity();
    double total = 0.0;
    while (total < kMeasureSeconds) {
        const double seconds = multiply_once();
        best = std::min(best, seconds);
        total += seconds;
    }
    return 2.0 * static_cast<double>(kRows * kInner * kColumns) / best;
}

namespace {

/// A linear layer's operands, and its four products as training computes them: back ends take different ways for them.
class LayerProducts {
   public:
    LayerProducts(Backend& backend, const MatmulShape& shape, DataType type)
        : backend_(backend),
          shape_(shape),
          type_(type),
          x_(backend.allocate(shape.rows * shape.inner * size_of(type))),
          weight_(backend.allocate(shape.columns * shape.inner * size_of(type))),
          gradient_(backend.allocate(shape.columns * shape.inner * size_of(DataType::kF32))),
          bias_(backend.allocate(shape.columns * size_of(type))),
          y_(backend.allocate(shape.rows * shape.columns * size_of(type))) {}

    [[nodiscard]] std::int64_t operand_bytes() const {
        return x_.bytes() + weight_.bytes() + gradient_.bytes() + bias_.bytes() + y_.bytes();
    }

    /// With the first `rows` rows alone.
    void multiply(std::int64_t rows) {
        const Tensor x = make_tensor(x_.data(), type_, rows, shape_.inner);
        const Tensor y = make_tensor(y_.data(), type_, rows, shape_.columns);
        const Tensor weight = make_tensor(weight_.data(), type_, shape_.columns, shape_.inner);
        const Tensor gradient = make_tensor(gradient_.data(), DataType::kF32, shape_.columns, shape_.inner);
        const Tensor bias = make_vector(bias_.data(), type_, shape_.columns);
        for (const Epilogue epilogue : {Epilogue::kBiasRelu, Epilogue::kBias}) {
            backend_.matmul(y,
                            {.a = x, .b = weight, .transpose_b = Transpose::kYes, .epilogue = epilogue, .bias = bias});
        }
        backend_.matmul(x, {.a = y, .b = weight});
        backend_.matmul(gradient, {.a = y, .b = x, .transpose_a = Transpose::kYes, .write = Write::kAccumulate});
        backend_.synchronize();
    }

   private:
    Backend& backend_;
    MatmulShape shape_;
    DataType type_;
    DeviceBuffer x_;
    DeviceBuffer weight_;
    DeviceBuffer gradient_;
    DeviceBuffer bias_;
    DeviceBuffer y_;
};

}  // namespace

std::int64_t measure_library_bytes(Backend& backend, std::span<const MatmulShape> shapes, DataType type) {
    for (const MatmulShape& shape : shapes) {
        if (shape.rows > 0) LayerProducts(backend, shape, type).multiply(shape.rows);
    }
    constexpr std::int64_t kMostRows = 1024;  // code for more is as large
    constexpr int kSizes = 14;                // batches of one budget differ by about kSizes * kStep rows
    constexpr std::int64_t kStep = 37;
    std::int64_t most = 0;
    for (MatmulShape shape : shapes) {
        if (shape.rows == 0) continue;
        shape.rows = std::min(shape.rows, kMostRows);
        LayerProducts layer(backend, shape, type);
        for (int size = 0; size < kSizes; ++size) layer.multiply(std::max<std::int64_t>(1, shape.rows - size * kStep));
        most = std::max(most, memory_use().resident_bytes - layer.operand_bytes());
    }
    return most;
}

}  // namespace duologue
