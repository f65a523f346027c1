// Memory use: what the system says this process holds.
#pragma once

#include <cstdint>

namespace duologue {

struct MemoryUse {
    std::int64_t resident_bytes = 0;       ///< now
    std::int64_t peak_resident_bytes = 0;  ///< the most so far
};

/// From /proc/self/status. kInternal where the system does not tell.
[[nodiscard]] MemoryUse memory_use();

}  // namespace duologue
