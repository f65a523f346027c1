// The CUDA runtime's functions for the card and its memory. Linked before the library, they are called.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <string_view>

#include "emulated_gpu/memory.h"
#include "emulated_gpu/streams.h"

namespace emulated_gpu {

namespace {

constexpr int kMultiprocessors = 4;
constexpr std::size_t kAlignment = 256;
constexpr std::size_t kMemoryBytes = std::size_t{16} << 30;

// The address and the pages of each piece of memory.
struct Pages {
    void* begin = nullptr;
    std::size_t bytes = 0;
    std::size_t wanted_bytes = 0;
};
std::map<const std::byte*, Pages>& memory() {
    static std::map<const std::byte*, Pages> all;
    return all;
}

std::size_t rounded(std::size_t bytes, std::size_t multiple) { return (bytes + multiple - 1) / multiple * multiple; }

std::string_view setting(const char* name, std::string_view otherwise) {
    const char* value = std::getenv(name);
    return value == nullptr ? otherwise : std::string_view(value);
}

Gpu configured() {
    Gpu gpu;
    gpu.pace = setting("EMULATED_GPU_PACE", "at-once") == "late" ? Pace::kLate : Pace::kAtOnce;
    gpu.order = setting("EMULATED_GPU_ORDER", "forward") == "backward" ? Order::kBackward : Order::kForward;
    return gpu;
}

}  // namespace

Gpu& gpu() {
    static Gpu only = configured();
    return only;
}

bool is_device_memory(const void* begin, std::size_t bytes) {
    const auto* first = static_cast<const std::byte*>(begin);
    const auto behind = memory().upper_bound(first);
    if (behind == memory().begin()) return false;
    const auto& [address, pages] = *std::prev(behind);
    return first + bytes <= address + pages.wanted_bytes;
}

}  // namespace emulated_gpu

using emulated_gpu::queue_work;

extern "C" {

cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorString(cudaError_t) { return "an emulated error"; }
const char* cudaGetErrorName(cudaError_t error) {
    return error == cudaErrorStreamCaptureIsolation     ? "cudaErrorStreamCaptureIsolation"
           : error == cudaErrorStreamCaptureInvalidated ? "cudaErrorStreamCaptureInvalidated"
                                                        : "emulated";
}

cudaError_t cudaGetDeviceCount(int* count) {
    *count = 1;
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : cudaErrorInvalidDevice; }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
    if (device != 0) return cudaErrorInvalidDevice;
    *properties = {};
    std::snprintf(properties->name, sizeof properties->name, "an emulated GPU");
    properties->major = 9;
    properties->multiProcessorCount = emulated_gpu::kMultiprocessors;
    properties->totalGlobalMem = emulated_gpu::kMemoryBytes;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}

// It ends where its last page does, up to the alignment: behind it every access ends the process.
cudaError_t cudaMalloc(void** address, size_t bytes) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t aligned = emulated_gpu::rounded(bytes, emulated_gpu::kAlignment);
    const std::size_t all = emulated_gpu::rounded(aligned, page) + page;
    if (bytes > emulated_gpu::kMemoryBytes) return cudaErrorMemoryAllocation;
    void* pages = mmap(nullptr, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pages == MAP_FAILED) return cudaErrorMemoryAllocation;
    mprotect(static_cast<std::byte*>(pages) + all - page, page, PROT_NONE);
    std::byte* data = static_cast<std::byte*>(pages) + all - page - aligned;
    emulated_gpu::memory()[data] = {.begin = pages, .bytes = all, .wanted_bytes = bytes};
    *address = data;
    return cudaSuccess;
}
// As CUDA's, waits for all work.
cudaError_t cudaFree(void* address) {
    if (address == nullptr) return cudaSuccess;
    emulated_gpu::finish_all_work();
    const auto found = emulated_gpu::memory().find(static_cast<std::byte*>(address));
    if (found == emulated_gpu::memory().end()) return cudaErrorInvalidValue;
    munmap(found->second.begin, found->second.bytes);
    emulated_gpu::memory().erase(found);
    return cudaSuccess;
}
cudaError_t cudaMallocHost(void** address, size_t bytes) {
    *address = std::malloc(bytes);
    return *address == nullptr ? cudaErrorMemoryAllocation : cudaSuccess;
}
cudaError_t cudaFreeHost(void* address) {
    emulated_gpu::finish_all_work();
    std::free(address);
    return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* all_bytes) {
    *free_bytes = *all_bytes = emulated_gpu::kMemoryBytes;
    return cudaSuccess;
}

cudaError_t cudaMemset(void* address, int value, size_t bytes) {
    std::memset(address, value, bytes);
    return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* address, int value, size_t bytes, cudaStream_t stream) {
    queue_work(stream, [=] { std::memset(address, value, bytes); });
    return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
    queue_work(stream, [=] { std::memcpy(to, from, bytes); });
    return cudaSuccess;
}
cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind, cudaStream_t stream) {
    if (to_pitch < width || from_pitch < width) return cudaErrorInvalidPitchValue;
    queue_work(stream, [=] {
        for (size_t row = 0; row < height; ++row) {
            std::memcpy(static_cast<std::byte*>(to) + row * to_pitch,
                        static_cast<const std::byte*>(from) + row * from_pitch, width);
        }
    });
    return cudaSuccess;
}

}  // extern "C"
