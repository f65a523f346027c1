// The CPU back end with its choices open: which code multiplies, for tests and benchmarks.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "duologue/backend/backend.h"

namespace duologue::cpu {

/// Who multiplies matrices.
enum class MatmulRoute : std::uint8_t {
    kAvx2,         ///< own panels, 6 x 16 register tile
    kWideOnAvx2,   ///< own panels, the 12 x 32 tile of AVX-512 in AVX2 code: for tests of its blocking
    kPairsOnAvx2,  ///< own panels of bf16 pairs in AVX2 code: for tests of their packing
    kAvx512,       ///< own panels, 12 x 32 register tile
    kAvx512Bf16,   ///< own panels of bf16 pairs, 12 x 32 register tile
    kOneDnn,       ///< oneDNN; rows too few to be worth it and empty sums are still our own
    kOneDnnMixed,  ///< oneDNN where it needs one pass, our own best where it would take a second for the epilogue
};

constexpr MatmulRoute kAllRoutes[] = {MatmulRoute::kAvx2,       MatmulRoute::kWideOnAvx2, MatmulRoute::kPairsOnAvx2,
                                      MatmulRoute::kAvx512,     MatmulRoute::kAvx512Bf16, MatmulRoute::kOneDnn,
                                      MatmulRoute::kOneDnnMixed};
[[nodiscard]] std::string name_of(MatmulRoute route);

struct CpuOptions {
    int threads = 0;  ///< 0: every core this process may use
    MatmulRoute f32_route = MatmulRoute::kAvx2;
    MatmulRoute bf16_route = MatmulRoute::kAvx2;
};

/// Whether this processor can take the route for operands of this type.
[[nodiscard]] bool can_take(MatmulRoute route, DataType type);
/// What make_cpu_backend() uses here.
[[nodiscard]] CpuOptions best_options(int threads);
/// Error kDevice where the processor lacks AVX2 and FMA or cannot take a route.
[[nodiscard]] std::unique_ptr<Backend> make_cpu_backend(const CpuOptions& options);

}  // namespace duologue::cpu
