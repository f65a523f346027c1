// The matmul rate that a back end reaches here: what a training step's speed is a share of.
#pragma once

#include "duologue/backend/backend.h"

namespace duologue {

/// Floating-point operations per second of a large product [2048,1024] x [1024,1024] with operands of `type`, the best
/// of a few runs within about 0.3 s. Allocates its operands and gives them back.
[[nodiscard]] double measure_matmul_flops_per_second(Backend& backend, DataType type);

}  // namespace duologue
