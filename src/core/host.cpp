// Affinity, /proc/meminfo, control groups (cgroups(7), version 2 and 1), statvfs.
#include "duologue/core/host.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <limits>
#include <optional>

#include "duologue/core/error.h"

namespace duologue {

namespace {

namespace fs = std::filesystem;

/// A field of /proc/meminfo, for example "MemTotal:".
std::int64_t memory_field(const std::string& wanted) {
    std::ifstream file("/proc/meminfo");
    for (std::string name; file >> name;) {
        std::int64_t kib = 0;
        if (name == wanted && file >> kib) return kib * 1024;
    }
    fail(ErrorCode::kInternal, "/proc/meminfo does not say {}; is /proc mounted?", wanted);
}

std::optional<std::int64_t> number_in(const std::string& path) {
    std::ifstream file(path);
    std::int64_t number = 0;
    return file >> number ? std::optional(number) : std::nullopt;  // "max" is no limit
}

/// A container's share of the memory: its limit and what it uses of it; nothing where there is none.
struct Limit {
    std::int64_t bytes = 0;
    std::int64_t used_bytes = 0;
};
std::optional<Limit> memory_limit() {
    for (const auto& [limit, used] :
         {std::pair{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"},
          std::pair{"/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"}}) {
        if (const auto bytes = number_in(limit))
            return Limit{.bytes = *bytes, .used_bytes = number_in(used).value_or(0)};
    }
    return std::nullopt;
}

int usable_cores(int online) {
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    return sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : online;
}

}  // namespace

HostFacts host_facts() {
    HostFacts facts;
    facts.online_cores = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
    facts.usable_cores = usable_cores(facts.online_cores);
    facts.memory_bytes = memory_field("MemTotal:");
    facts.available_bytes = memory_field("MemAvailable:");
    if (const auto limit = memory_limit()) {
        facts.memory_bytes = std::min(facts.memory_bytes, limit->bytes);
        facts.available_bytes = std::min(facts.available_bytes, limit->bytes - limit->used_bytes);
    }
    facts.shared_memory_bytes = free_disk_bytes("/dev/shm");
    return facts;
}

std::int64_t free_disk_bytes(const std::string& path) {
    fs::path folder = fs::absolute(path);
    while (!fs::exists(folder) && folder.has_relative_path()) folder = folder.parent_path();
    std::error_code problem;
    const fs::space_info space = fs::space(folder, problem);
    require(!problem, ErrorCode::kInputOutput, "cannot ask how much room is left at '{}': {}", folder.string(),
            problem.message());
    return static_cast<std::int64_t>(
        std::min<std::uintmax_t>(space.available, std::numeric_limits<std::int64_t>::max()));
}

}  // namespace duologue
