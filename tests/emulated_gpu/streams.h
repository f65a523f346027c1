// An emulated GPU's streams, events and graphs, as unhelpful as a GPU's may be.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>
#include <string>

#include "emulated_gpu/blocks.h"

namespace emulated_gpu {

/// When a stream does what it is given. kLate: not before somebody waits for it, and then only as far as is needed.
/// kAtOnce: as soon as what it waits for is done. Both are allowed to a GPU: what is right under both has its events.
enum class Pace : std::uint8_t { kLate, kAtOnce };

struct Gpu {
    Pace pace = Pace::kLate;        ///< of streams that are made from now on
    Order order = Order::kForward;  ///< of kernels that are launched from now on
    std::string fails;              ///< the function of this name returns an error
    std::int64_t host_waits = 0;    ///< how often the host waited for something that was not done
    std::int64_t instantiated = 0;  ///< graphs
    std::int64_t launched = 0;      ///< graphs
    std::int64_t alive = 0;         ///< executable graphs
};

/// The one of this process: the functions that it stands behind have no other way to know it. It begins with the pace
/// and the order that EMULATED_GPU_PACE (late, at-once) and EMULATED_GPU_ORDER (forward, backward) name.
[[nodiscard]] Gpu& gpu();

/// Queues `run` as a kernel; a graph that it is captured into runs it again.
void queue_work(cudaStream_t stream, std::function<void()> run);
/// All that all streams were given.
void finish_all_work();

}  // namespace emulated_gpu
