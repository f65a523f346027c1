// Device choice: which device each rank of a job computes on, from what every rank sees of its host.
#pragma once

#include <string>
#include <vector>

#include "duologue/backend/cuda_backend.h"
#include "duologue/config/config.h"

namespace duologue {

/// What one rank sees.
struct RankView {
    std::string host;
    std::vector<CudaDevice> gpus;  ///< that its process can use
};

struct DeviceChoice {
    DeviceKind kind = DeviceKind::kCpu;  ///< never kAuto
    int gpu = 0;                         ///< CUDA's number, in this rank's process
};

/// The device of `rank`; a function of what all ranks see, so that all come to the same answer. kAuto is the GPU where
/// every rank has one and the CPU where none has. Ranks of a host take its GPUs in order; where a launcher shows each
/// of them another one, that one. kDevice where some rank has none, or where there are fewer than ranks on a host and
/// `share_device` does not allow for that.
[[nodiscard]] DeviceChoice choose_device(const DeviceConfig& device, const DistributedConfig& distributed,
                                         const std::vector<RankView>& ranks, int rank);

}  // namespace duologue
