// Slots in turn; an event per slot says when its last copy is done.
#include "backend/cuda/upload_ring.h"

#include <algorithm>
#include <cstring>

#include "backend/cuda/check.h"

namespace duologue::cuda {

UploadRing::UploadRing(cudaStream_t stream) : stream_(stream) {
    void* memory = nullptr;
    check(cudaMallocHost(&memory, kSlots * static_cast<std::size_t>(kSlotBytes)), "pinning memory for uploads");
    memory_.reset(static_cast<std::byte*>(memory));
    for (auto& copied : copied_) {
        cudaEvent_t event = nullptr;
        check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "making an event");
        copied.reset(event);
    }
}

void UploadRing::upload(void* to, const void* host, std::int64_t bytes) {
    for (std::int64_t begin = 0; begin < bytes; begin += kSlotBytes) {
        const auto count = static_cast<std::size_t>(std::min(kSlotBytes, bytes - begin));
        std::byte* slot = memory_.get() + next_ * static_cast<std::size_t>(kSlotBytes);
        cudaEvent_t copied = copied_.at(next_).get();
        check(cudaEventSynchronize(copied), "upload");  // at once where it was never recorded
        std::memcpy(slot, static_cast<const std::byte*>(host) + begin, count);
        check(cudaMemcpyAsync(static_cast<std::byte*>(to) + begin, slot, count, cudaMemcpyHostToDevice, stream_),
              "upload");
        check(cudaEventRecord(copied, stream_), "upload");
        next_ = (next_ + 1) % kSlots;
    }
}

}  // namespace duologue::cuda
