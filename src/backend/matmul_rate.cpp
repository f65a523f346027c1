// Times one large product until a fraction of a second has passed.
#include "duologue/backend/matmul_rate.h"

#include <algorithm>
#include <chrono>
#include <limits>

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

}  // namespace duologue
