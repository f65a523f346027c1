// Slots in turn: host, pinned memory, device memory, destination.
#include "backend/cuda/upload_ring.h"

#include <algorithm>
#include <cstring>

namespace duologue::cuda {

UploadRing::UploadRing(cudaStream_t compute) : compute_(compute), stream_(make_stream()) {
    constexpr auto kSlot = static_cast<std::size_t>(kSlotBytes);
    void* memory = nullptr;
    check(cudaMallocHost(&memory, kSlots * kSlot), "pinning memory for uploads");
    pinned_.reset(static_cast<std::byte*>(memory));
    check(cudaMalloc(&memory, kSlots * kSlot), "making room for uploads");
    device_.reset(static_cast<std::byte*>(memory));
    for (std::size_t i = 0; i < kSlots; ++i) {
        slots_.at(i) = {.pinned = pinned_.get() + i * kSlot,
                        .arrived_at = device_.get() + i * kSlot,
                        .arrived = make_event(),
                        .taken = make_event()};
    }
}

void UploadRing::upload(void* to, const void* host, std::int64_t bytes) {
    for (std::int64_t begin = 0; begin < bytes; begin += kSlotBytes) {
        const auto count = static_cast<std::size_t>(std::min(kSlotBytes, bytes - begin));
        send(slots_.at(next_), static_cast<std::byte*>(to) + begin, static_cast<const std::byte*>(host) + begin, count);
        next_ = (next_ + 1) % kSlots;
    }
}

void UploadRing::send(Slot& slot, std::byte* to, const std::byte* host, std::size_t count) {
    check(cudaEventSynchronize(slot.taken.get()), "upload");  // at once where it was never recorded
    std::memcpy(slot.pinned, host, count);
    check(cudaMemcpyAsync(slot.arrived_at, slot.pinned, count, cudaMemcpyHostToDevice, stream_.get()), "upload");
    check(cudaEventRecord(slot.arrived.get(), stream_.get()), "upload");
    check(cudaStreamWaitEvent(compute_, slot.arrived.get(), 0), "upload");
    check(cudaMemcpyAsync(to, slot.arrived_at, count, cudaMemcpyDeviceToDevice, compute_), "upload");
    check(cudaEventRecord(slot.taken.get(), compute_), "upload");
}

}  // namespace duologue::cuda
