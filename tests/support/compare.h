// Comparisons with tolerances that follow from the data type and the length of the sums, and say where they fail.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>

#include "duologue/core/tensor.h"
#include "support/host_matrix.h"

namespace duologue {

/// Half a unit in the last place, relative: what one rounding to nearest can cost. 2^-24 for f32, 2^-8 for bf16.
[[nodiscard]] double unit_roundoff(DataType type);

/// How far a device's value may be from the reference's:
///   2 u(type) |wanted|                             both are rounded when they are stored
///   + u(type) intermediate_roundings magnitude     operands that may be rounded to the activation type on the way
///   + u(f32) (8 + 2 sqrt(length)) magnitude        an f32 sum of `length` terms, errors adding like a random walk
/// `magnitude` is the sum of the absolute values of what is summed, or a bound of it.
struct Tolerance {
    DataType type = DataType::kF32;
    std::int64_t length = 1;
    double magnitude = 1.0;
    double intermediate_roundings = 0.0;

    [[nodiscard]] double allowed(double wanted) const;
};

/// Element by element; NaN is close to NaN only, an infinity to itself only.
[[nodiscard]] testing::AssertionResult close(const HostMatrix& got, const HostMatrix& wanted,
                                             const Tolerance& tolerance);
/// As above, with a magnitude of its own for every element instead of the tolerance's.
[[nodiscard]] testing::AssertionResult close(const HostMatrix& got, const HostMatrix& wanted,
                                             const HostMatrix& magnitudes, const Tolerance& tolerance);
/// The same values (0 and -0 are the same, NaN is the same as NaN).
[[nodiscard]] testing::AssertionResult same(const HostMatrix& got, const HostMatrix& wanted);
/// Zero in the same places: the masks of dropout.
[[nodiscard]] testing::AssertionResult same_zeros(const HostMatrix& got, const HostMatrix& wanted);

[[nodiscard]] double largest_magnitude(const HostMatrix& matrix);

}  // namespace duologue
