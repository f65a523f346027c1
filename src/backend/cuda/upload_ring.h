// UploadRing: copies to the device that neither the host nor the compute stream waits for, through memory of its own.
#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "backend/cuda/streams.h"

namespace duologue::cuda {

/// The host copies into a pinned slot and goes on; a stream of the ring's own brings the slot to the device while the
/// compute stream is still busy with what was queued before; on the compute stream there is only a copy inside the
/// device, in its turn. The host waits only when it is a whole ring ahead of the compute stream.
class UploadRing {
   public:
    explicit UploadRing(cudaStream_t compute);

    /// Queues the copy of `bytes` from `host`, which may be reused on return.
    void upload(void* to, const void* host, std::int64_t bytes);

   private:
    static constexpr std::int64_t kSlotBytes = std::int64_t{256} << 10;
    static constexpr std::size_t kSlots = 64;  // a micro-batch takes about ten

    struct Slot {
        std::byte* pinned = nullptr;
        std::byte* arrived_at = nullptr;  // on the device
        Event arrived;
        Event taken;  // by the compute stream: both memories of the slot are free
    };
    void send(Slot& slot, std::byte* to, const std::byte* host, std::size_t count);

    struct PinnedMemoryDeleter {
        void operator()(std::byte* memory) const { cudaFreeHost(memory); }
    };
    struct DeviceMemoryDeleter {
        void operator()(std::byte* memory) const { cudaFree(memory); }
    };

    cudaStream_t compute_;
    Stream stream_;
    std::unique_ptr<std::byte, PinnedMemoryDeleter> pinned_;
    std::unique_ptr<std::byte, DeviceMemoryDeleter> device_;
    std::array<Slot, kSlots> slots_;
    std::size_t next_ = 0;
};

}  // namespace duologue::cuda
