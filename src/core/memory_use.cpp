// VmRSS and VmHWM of /proc/self/status (proc(5)).
#include "duologue/core/memory_use.h"

#include <fstream>
#include <string>

#include "duologue/core/error.h"

namespace duologue {

MemoryUse memory_use() {
    MemoryUse use;
    std::ifstream status("/proc/self/status");
    for (std::string name; status >> name;) {
        std::int64_t kib = 0;
        if (name == "VmRSS:" && status >> kib) use.resident_bytes = kib * 1024;
        if (name == "VmHWM:" && status >> kib) use.peak_resident_bytes = kib * 1024;
    }
    require(use.resident_bytes > 0 && use.peak_resident_bytes > 0, ErrorCode::kInternal,
            "/proc/self/status does not say how much memory this process holds; is /proc mounted?");
    return use;
}

}  // namespace duologue
