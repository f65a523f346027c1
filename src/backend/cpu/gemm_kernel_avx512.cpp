// The register tile compiled for AVX-512.
#include "backend/cpu/gemm_kernel.h"

namespace duologue::cpu {

namespace {
struct Avx512 {
    using Vector [[gnu::vector_size(64), gnu::aligned(4), gnu::may_alias]] = float;
};
}  // namespace

const MicroKernel& avx512_kernel() { return RegisterTile<Avx512, 12, 2>::kKernel; }

}  // namespace duologue::cpu
