// Host: what the system says about this machine: cores and memory that this process may use, room on its disks.
#pragma once

#include <cstdint>
#include <string>

namespace duologue {

struct HostFacts {
    int online_cores = 0;
    int usable_cores = 0;                  ///< by this process's affinity
    std::int64_t memory_bytes = 0;         ///< of the machine, or the limit of this process's control group if lower
    std::int64_t available_bytes = 0;      ///< that can still be had
    std::int64_t shared_memory_bytes = 0;  ///< free in /dev/shm, through which ranks of one host exchange data
};

/// kInternal where the system does not tell.
[[nodiscard]] HostFacts host_facts();

/// Bytes that this process can still write below `path`, or below its nearest folder that is there.
[[nodiscard]] std::int64_t free_disk_bytes(const std::string& path);

}  // namespace duologue
