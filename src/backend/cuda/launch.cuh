// What launchers share: grids, alignment, and the choice of a kernel by type and access.
#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>

#include "backend/cuda/device.cuh"
#include "backend/cuda/kernels.h"
#include "backend/cuda/launch_kernel.cuh"
#include "duologue/core/rounding.h"

namespace duologue::cuda {

/// kWide where every row of every tensor begins at a multiple of 16 bytes and has a whole number of octets.
inline Access access_of(std::initializer_list<Tensor> tensors) {
    const auto wide = [](const Tensor& tensor) {
        const std::int64_t element = tensor.type == DataType::kBf16 ? 2 : 4;
        return tensor.empty() ||
               (reinterpret_cast<std::uintptr_t>(tensor.data) % 16 == 0 &&
                (tensor.rows <= 1 || tensor.row_stride * element % 16 == 0) && tensor.columns % kOctet == 0);
    };
    return std::all_of(tensors.begin(), tensors.end(), wide) ? Access::kWide : Access::kNarrow;
}

inline DropoutDraw draw_of(const Launch& launch, const Dropout& dropout) {
    return {.random_key = launch.random_key,
            .site = dropout.site,
            .threshold = dropout_threshold(dropout.probability),
            .scale = dropout_scale(dropout.probability)};
}

template <Access kAccess>
struct AccessConstant {
    static constexpr Access kValue = kAccess;
};

/// Calls `use(value of the element type, access)` for f32 or bf16.
template <class Use>
cudaError_t with_type(DataType type, const Use& use) {
    return type == DataType::kBf16 ? use(Bf16{}) : use(float{});
}

template <class Use>
cudaError_t with_access(Access access, const Use& use) {
    return access == Access::kWide ? use(AccessConstant<Access::kWide>{}) : use(AccessConstant<Access::kNarrow>{});
}

/// Blocks for `items` pieces of work in a kernel that strides over them.
inline unsigned grid_for(const Launch& launch, std::int64_t items, int per_block, int blocks_per_multiprocessor) {
    const std::int64_t most = static_cast<std::int64_t>(launch.multiprocessors) * blocks_per_multiprocessor;
    return static_cast<unsigned>(std::clamp<std::int64_t>(divided_up(items, per_block), 1, most));
}

}  // namespace duologue::cuda
