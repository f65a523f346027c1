// The CUDA back end: one NVIDIA GPU through cuBLASLt and own kernels. Absent from builds without CUDA.
#pragma once

#include <cstdint>
#include <memory>

#include "duologue/backend/backend.h"
#include "duologue/core/device_stream.h"

namespace duologue {

/// How the algorithm of a matrix product is chosen. kTimed: the fastest of the library's candidates, timed once per
/// shape. kHeuristic: the library's first, a function of the shape alone, so that another process gets the same bits.
enum class MatmulChoice : std::uint8_t { kTimed, kHeuristic };

struct CudaOptions {
    int device = 0;  ///< among the GPUs that this process may use
    MatmulChoice matmul = MatmulChoice::kTimed;
};

class CudaBackend : public Backend {
   public:
    [[nodiscard]] virtual DeviceStream compute_stream() const = 0;
};

/// How many GPUs this process may use; 0 where there is none, no driver, or no CUDA back end in this build.
[[nodiscard]] int cuda_device_count();

/// Error kDevice where this build has no CUDA back end, there is no such GPU, or it is older than sm_80.
[[nodiscard]] std::unique_ptr<CudaBackend> make_cuda_backend(const CudaOptions& options);

}  // namespace duologue
