// Where an emulated GPU's memory is.
#pragma once

#include <cstddef>

namespace emulated_gpu {

/// Whether these bytes are inside of one piece that cudaMalloc() gave.
[[nodiscard]] bool is_device_memory(const void* begin, std::size_t bytes);

}  // namespace emulated_gpu
