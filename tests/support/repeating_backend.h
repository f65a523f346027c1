// A back end over another that repeats work as a GPU repeats graphs, and counts how often the host waits.
#pragma once

#include <cstdint>
#include <memory>

#include "duologue/backend/backend.h"

namespace duologue {

struct RepeatingCounts {
    std::int64_t host_waits = 0;  ///< downloads and synchronize()
    std::int64_t runs = 0;        ///< of repeaters
    std::int64_t replays = 0;     ///< of those, without calling the work
};

enum class Repeats : std::uint8_t { kNo, kYes };

/// Its repeaters keep the operations that a work queues for a key, with their operands, and from the second run on
/// queue these again (kYes). A work that asks for more than a graph can hold is Error kInternal. Micro-batches are
/// tiled, so that sizes come again. `counts` outlives it.
[[nodiscard]] std::unique_ptr<Backend> make_repeating_backend(std::unique_ptr<Backend> inner, Repeats repeats,
                                                              RepeatingCounts& counts);

}  // namespace duologue
