// The CUDA back end inside its module.
#pragma once

#include <memory>
#include <vector>

#include "duologue/backend/cuda_backend.h"

namespace duologue::cuda {

/// What duologue/backend/cuda_backend.h promises of the functions of these names.
[[nodiscard]] int device_count();
[[nodiscard]] std::vector<CudaDevice> devices();
[[nodiscard]] std::unique_ptr<CudaBackend> make_backend(const CudaOptions& options);

}  // namespace duologue::cuda
