// check(): turns the statuses of CUDA's libraries into Errors.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include "duologue/core/error.h"

namespace duologue::cuda {

/// Error kDevice naming `what` unless the status is success.
inline void check(cudaError_t status, const char* what) {
    require(status == cudaSuccess, ErrorCode::kDevice, "CUDA failed in {}: {} ({})", what, cudaGetErrorString(status),
            cudaGetErrorName(status));
}

inline void check(cublasStatus_t status, const char* what) {
    require(status == CUBLAS_STATUS_SUCCESS, ErrorCode::kDevice, "cuBLASLt failed in {}: {}", what,
            cublasLtGetStatusString(status));
}

}  // namespace duologue::cuda
