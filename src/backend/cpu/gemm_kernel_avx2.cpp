// The register tile compiled for AVX2 and FMA.
#include "backend/cpu/gemm_kernel.h"

namespace duologue::cpu {

namespace {
struct Avx2 {
    using Vector [[gnu::vector_size(32), gnu::aligned(4), gnu::may_alias]] = float;
};
}  // namespace

const MicroKernel& avx2_kernel() { return RegisterTile<Avx2, 6, 2>::kKernel; }

const MicroKernel& wide_kernel_on_avx2() { return RegisterTile<Avx2, 8, 6>::kKernel; }

}  // namespace duologue::cpu
