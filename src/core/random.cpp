// Exact bounded integers and normals from a counter-based stream.
#include "duologue/core/random.h"

#include <cmath>
#include <numbers>

namespace duologue {

std::uint64_t RandomStream::below(std::uint64_t bound) {
    const std::uint64_t limit = ~std::uint64_t{0} - (~std::uint64_t{0} % bound + 1) % bound;
    std::uint64_t value = next_u64();
    while (value > limit) value = next_u64();
    return value % bound;
}

double RandomStream::normal() {
    const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));
    return radius * std::cos(2.0 * std::numbers::pi * uniform());
}

}  // namespace duologue
