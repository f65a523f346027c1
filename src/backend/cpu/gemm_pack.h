// Packing: copies of a matrix in the order in which the register tile reads them, converted to f32.
#pragma once

#include <cstdint>

#include "backend/cpu/simd.h"

namespace duologue::cpu {

/// Which index of an operand has adjacent elements in memory: the one across a panel (rows of op(a), columns of op(b))
/// or the depth that is summed over.
enum class Adjacent : std::uint8_t { kAcross, kDepth };

/// Part of an operand: element (across i, depth k) is data[k * stride + i] (kAcross) or data[i * stride + k] (kDepth).
template <class T>
struct PackSource {
    const T* data;
    std::int64_t stride;
    Adjacent adjacent;
    std::int64_t across;
    std::int64_t depth;
};

/// Floats that pack_panels() may write: whole panels, and the overhang of the last vector.
[[nodiscard]] inline std::int64_t packed_floats(std::int64_t across, std::int64_t depth, std::int64_t width) {
    return (across + width - 1) / width * width * depth + kLanes;
}

/// Panels of `width` (6 or a multiple of 8): out[panel][k][width], zero past `across`.
template <class T>
void pack_panels(float* out, const PackSource<T>& source, std::int64_t width);

extern template void pack_panels(float*, const PackSource<float>&, std::int64_t);
extern template void pack_panels(float*, const PackSource<Bfloat16>&, std::int64_t);

}  // namespace duologue::cpu
