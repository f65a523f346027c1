// Central differences of fourth order.
#include "support/gradient_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "support/compare.h"

namespace duologue {

namespace {

// (8 (f(x+h) - f(x-h)) - (f(x+2h) - f(x-2h))) / 12h, with the steps that f32 really takes.
double difference_quotient(const std::function<double()>& f, float& element, double step) {
    const float centre = element;
    const auto slope = [&](double distance) {
        element = static_cast<float>(centre + distance);
        const double above = element;
        const double f_above = f();
        element = static_cast<float>(centre - distance);
        const double below = element;
        const double f_below = f();
        element = centre;
        return (f_above - f_below) / (above - below);
    };
    return (4.0 * slope(step) - slope(2.0 * step)) / 3.0;
}

}  // namespace

testing::AssertionResult is_gradient(const std::function<double()>& f, const Tensor& x, const HostMatrix& analytic,
                                     const GradientCheck& check) {
    if (x.type != DataType::kF32 || analytic.elements() != x.elements()) {
        return testing::AssertionFailure() << fmt::format("a gradient of {} elements for {} {} of x",
                                                          analytic.elements(), x.elements(), name_of(x.type));
    }
    const double allowed = check.tolerance * std::max(check.floor, largest_magnitude(analytic));
    const std::int64_t tried = check.samples < 0 ? x.elements() : std::min(check.samples, x.elements());
    for (std::int64_t sample = 0; sample < tried; ++sample) {
        const std::int64_t i = sample * x.elements() / tried;
        const std::int64_t row = i / x.columns;
        const std::int64_t column = i % x.columns;
        const double quotient = difference_quotient(f, x.as<float>()[row * x.row_stride + column], check.step);
        if (std::abs(quotient - analytic[i]) <= allowed) continue;  // NaN is not
        return testing::AssertionFailure()
               << fmt::format("gradient [{}, {}] is {}, but the difference quotient is {} +- {:.3g}", row, column,
                              analytic[i], quotient, allowed);
    }
    return testing::AssertionSuccess();
}

}  // namespace duologue
