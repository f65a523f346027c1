// Comparisons with derived tolerances.
#include "support/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>

namespace duologue {

namespace {

bool within(double got, double wanted, double allowed) {
    if (std::isnan(wanted) || std::isnan(got)) return std::isnan(wanted) && std::isnan(got);
    if (std::isinf(wanted) || std::isinf(got)) return wanted == got;
    return std::abs(got - wanted) <= allowed;
}

// How many are outside, and the worst and the first of them.
testing::AssertionResult compared(const HostMatrix& got, const HostMatrix& wanted,
                                  const std::function<double(std::int64_t)>& allowed) {
    if (got.rows() != wanted.rows() || got.columns() != wanted.columns()) {
        return testing::AssertionFailure() << fmt::format("a {} x {} result, expected {} x {}", got.rows(),
                                                          got.columns(), wanted.rows(), wanted.columns());
    }
    std::int64_t outside = 0;
    std::int64_t first = -1;
    std::int64_t worst = -1;
    double worst_ratio = -1.0;
    for (std::int64_t i = 0; i < got.elements(); ++i) {
        if (within(got[i], wanted[i], allowed(i))) continue;
        const double ratio = std::abs(got[i] - wanted[i]) / allowed(i);
        if (outside++ == 0) first = i;
        if (worst < 0 || std::isnan(ratio) || ratio > worst_ratio) {
            worst = i;
            worst_ratio = ratio;
        }
    }
    if (outside == 0) return testing::AssertionSuccess();
    const auto told = [&](std::int64_t i) {
        return fmt::format("[{}, {}] is {}, expected {} +- {:.3g}", i / got.columns(), i % got.columns(), got[i],
                           wanted[i], allowed(i));
    };
    return testing::AssertionFailure() << fmt::format("{} of {} elements differ; first {}; worst {}", outside,
                                                      got.elements(), told(first), told(worst));
}

}  // namespace

double unit_roundoff(DataType type) { return type == DataType::kBf16 ? 0x1p-8 : 0x1p-24; }

double Tolerance::allowed(double wanted) const {
    const double stored = 2.0 * unit_roundoff(type) * std::abs(wanted);
    const double rounded = unit_roundoff(type) * intermediate_roundings * magnitude;
    const double summed =
        unit_roundoff(DataType::kF32) * (8.0 + 2.0 * std::sqrt(static_cast<double>(length))) * magnitude;
    return stored + rounded + summed;
}

testing::AssertionResult close(const HostMatrix& got, const HostMatrix& wanted, const Tolerance& tolerance) {
    return compared(got, wanted, [&](std::int64_t i) { return tolerance.allowed(wanted[i]); });
}

testing::AssertionResult close(const HostMatrix& got, const HostMatrix& wanted, const HostMatrix& magnitudes,
                               const Tolerance& tolerance) {
    return compared(got, wanted, [&](std::int64_t i) {
        Tolerance own = tolerance;
        own.magnitude = std::abs(magnitudes[i]);
        return own.allowed(wanted[i]);
    });
}

testing::AssertionResult same(const HostMatrix& got, const HostMatrix& wanted) {
    return compared(got, wanted, [](std::int64_t) { return 0.0; });
}

testing::AssertionResult same_zeros(const HostMatrix& got, const HostMatrix& wanted) {
    const auto zeros = [](const HostMatrix& matrix) {
        HostMatrix marks(matrix.rows(), matrix.columns());
        for (std::int64_t i = 0; i < matrix.elements(); ++i) marks[i] = matrix[i] == 0.0 ? 1.0 : 0.0;
        return marks;
    };
    return same(zeros(got), zeros(wanted));
}

double largest_magnitude(const HostMatrix& matrix) {
    double largest = 0.0;
    for (std::int64_t i = 0; i < matrix.elements(); ++i) largest = std::max(largest, std::abs(matrix[i]));
    return largest;
}

}  // namespace duologue
