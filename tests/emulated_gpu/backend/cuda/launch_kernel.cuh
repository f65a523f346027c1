// In the place of src/backend/cuda/launch_kernel.cuh: kernels that are C++ functions, queued on an emulated stream.
#pragma once

#include <cstddef>
#include <tuple>
#include <type_traits>

#include "emulated_gpu/blocks.h"
#include "emulated_gpu/streams.h"

namespace duologue::cuda {

struct LaunchShape {
    dim3 grid;
    dim3 block;
    std::size_t shared_bytes = 0;
};

template <class... Parameters>
[[nodiscard]] cudaError_t launch_kernel(cudaStream_t stream, const LaunchShape& shape, void (*kernel)(Parameters...),
                                        std::type_identity_t<Parameters>... arguments) {
    const emulated_gpu::Grid grid{.blocks = shape.grid, .threads = shape.block, .shared_bytes = shape.shared_bytes};
    const cudaError_t error = emulated_gpu::grid_error(grid, emulated_gpu::kMostSharedBytes);
    if (error != cudaSuccess) return error;
    const auto order = emulated_gpu::gpu().order;
    emulated_gpu::queue_work(stream, [grid, order, kernel, all = std::tuple<Parameters...>(arguments...)] {
        emulated_gpu::run_grid(grid, order, [&] { std::apply(kernel, all); });
    });
    return cudaSuccess;
}

inline float* launch_shared() { return emulated_gpu::shared_memory(); }

}  // namespace duologue::cuda
