// NCCL: the communicator of GPUs, in a module that is loaded when it is asked for (core/device_module.h).
#pragma once

#include <cstdint>
#include <memory>

#include "duologue/comm/communicator.h"
#include "duologue/core/device_stream.h"

namespace duologue {

/// kSeveral: for tests on machines with few GPUs. NCCL is told that every rank is a host of its own, so that all goes
/// over sockets; what is measured then means nothing.
enum class RanksPerDevice : std::uint8_t { kOne, kSeveral };

struct NcclOptions {
    DeviceStream compute;  ///< of this rank's back end
    RanksPerDevice ranks_per_device = RanksPerDevice::kOne;
};

/// Collectives over device memory on a stream of their own with the highest priority: each begins when what was queued
/// on the compute stream before it has run, and the compute stream goes on meanwhile. join() makes the compute stream
/// wait, not the host. While the compute stream is captured (in thread-local mode) collectives and join() become part
/// of the graph; a replay is watched by the next collective queued outside of it. Training queues them between graphs:
/// its ranks have micro-batches of different sizes, and a captured collective has to be replayed alike on all.
/// Where nothing has run for as long as ranks wait (World::set_timeout_seconds) or NCCL reports an error, the job ends
/// with that error. kCommunication where the ranks cannot be connected in that time; kDevice where this build has no
/// CUDA back end.
[[nodiscard]] std::unique_ptr<Communicator> make_nccl_communicator(World& world, const NcclOptions& options);

}  // namespace duologue
