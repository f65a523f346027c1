// Matmul measurements: the rate that a back end reaches here, which a step's speed is a share of, and the memory that
// its libraries take.
#pragma once

#include <span>

#include "duologue/backend/backend.h"

namespace duologue {

/// Floating-point operations per second of a large product [2048,1024] x [1024,1024] with operands of `type`, the best
/// of a few runs within about 0.3 s. Allocates its operands and gives them back.
[[nodiscard]] double measure_matmul_flops_per_second(Backend& backend, DataType type);

struct MatmulShape {
    std::int64_t rows = 0;
    std::int64_t inner = 0;
    std::int64_t columns = 0;
};

/// The most memory that this process holds, operands aside, while it computes linear layers of these shapes forward and
/// backward by their products, also with fewer rows, as batches of changing size have: what program, back end and
/// libraries hold in a long training.
[[nodiscard]] std::int64_t measure_library_bytes(Backend& backend, std::span<const MatmulShape> shapes, DataType type);

}  // namespace duologue
