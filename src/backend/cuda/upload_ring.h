// UploadRing: copies to the device that the host does not wait for, through pinned memory of its own.
#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>

namespace duologue::cuda {

/// From pageable memory a copy would wait for everything queued before it. Here the host copies into the next free slot
/// and goes on; it waits only when it is a whole ring ahead of the device.
class UploadRing {
   public:
    explicit UploadRing(cudaStream_t stream);

    /// Queues the copy of `bytes` from `host`, which may be reused on return.
    void upload(void* to, const void* host, std::int64_t bytes);

   private:
    static constexpr std::int64_t kSlotBytes = std::int64_t{256} << 10;
    static constexpr std::size_t kSlots = 64;  // a micro-batch takes about ten

    struct HostMemoryDeleter {
        void operator()(std::byte* memory) const { cudaFreeHost(memory); }
    };
    struct EventDeleter {
        void operator()(cudaEvent_t event) const { cudaEventDestroy(event); }
    };

    cudaStream_t stream_;
    std::unique_ptr<std::byte, HostMemoryDeleter> memory_;
    std::array<std::unique_ptr<std::remove_pointer_t<cudaEvent_t>, EventDeleter>, kSlots> copied_;
    std::size_t next_ = 0;
};

}  // namespace duologue::cuda
