// What the CUDA back end answers in a build without it.
#include "duologue/backend/cuda_backend.h"
#include "duologue/core/error.h"

namespace duologue {

int cuda_device_count() { return 0; }

std::unique_ptr<CudaBackend> make_cuda_backend(const CudaOptions& options) {
    fail(
        ErrorCode::kDevice,
        "GPU {} was asked for, but this build has no CUDA back end; configure with -DDUOLOGUE_CUDA=ON, which says what "
        "is missing, or choose device.kind=cpu",
        options.device);
}

}  // namespace duologue
