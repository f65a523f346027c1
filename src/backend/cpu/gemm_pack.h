// Packing: copies of a matrix in the order in which the register tile reads them, converted to its words.
#pragma once

#include <cstdint>

#include "backend/cpu/gemm_kernel.h"
#include "backend/cpu/simd.h"
#include "duologue/core/rounding.h"

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
[[nodiscard]] inline std::int64_t packed_floats(const PanelShape& shape, std::int64_t across, std::int64_t depth) {
    return rounded_up(across, shape.width) * words_for(shape.word, depth) + kLanes;
}

/// Panels as `shape` has them: out[panel][word][width], zero past `across`.
template <class T>
void pack_panels(float* out, const PackSource<T>& source, const PanelShape& shape);

extern template void pack_panels(float*, const PackSource<float>&, const PanelShape&);
extern template void pack_panels(float*, const PackSource<Bfloat16>&, const PanelShape&);

}  // namespace duologue::cpu
