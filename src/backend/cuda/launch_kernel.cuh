// launch_kernel(): starts a kernel; and the shared memory that a launch gives its blocks.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <type_traits>

namespace duologue::cuda {

struct LaunchShape {
    dim3 grid;
    dim3 block;
    std::size_t shared_bytes = 0;  ///< of a block, beside what the kernel declares
};

/// Queues the kernel on the stream; returns the status of its launch.
template <class... Parameters>
[[nodiscard]] cudaError_t launch_kernel(cudaStream_t stream, const LaunchShape& shape, void (*kernel)(Parameters...),
                                        std::type_identity_t<Parameters>... arguments) {
    constexpr std::size_t kUnasked = std::size_t{48} << 10;  // more has to be asked for
    const auto* function = reinterpret_cast<const void*>(kernel);
    if (shape.shared_bytes > kUnasked) {
        const cudaError_t status = cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                        static_cast<int>(shape.shared_bytes));
        if (status != cudaSuccess) return status;
    }
    void* addresses[] = {&arguments...};
    return cudaLaunchKernel(function, shape.grid, shape.block, addresses, shape.shared_bytes, stream);
}

/// LaunchShape::shared_bytes of this block.
__device__ __forceinline__ float* launch_shared() {
    extern __shared__ __align__(16) float memory[];
    return memory;
}

}  // namespace duologue::cuda
