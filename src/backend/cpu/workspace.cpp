// Growing scratch memory on huge pages where the system gives them.
#include "backend/cpu/workspace.h"

#include <sys/mman.h>

#include <cstdlib>

#include "duologue/core/arena.h"
#include "duologue/core/error.h"
#include "duologue/core/rounding.h"

namespace duologue::cpu {

namespace {

constexpr std::int64_t kHugePage = std::int64_t{1} << 21;

}  // namespace

void FreeMemory::operator()(void* memory) const { std::free(memory); }

Memory allocate_memory(std::int64_t bytes) {
    const std::int64_t alignment = bytes >= kHugePage / 4 ? kHugePage : Arena::kAlignment;
    const std::int64_t size = rounded_up(bytes > 0 ? bytes : 1, alignment);
    void* memory = std::aligned_alloc(static_cast<std::size_t>(alignment), static_cast<std::size_t>(size));
    require(memory != nullptr, ErrorCode::kDevice,
            "allocating {} bytes of memory failed: make the model or data.micro_batch_tokens smaller", bytes);
    // Only a hint: matrices are walked by columns, and with small pages that misses the address cache.
    if (alignment == kHugePage) madvise(memory, static_cast<std::size_t>(size), MADV_HUGEPAGE);
    return Memory(static_cast<std::byte*>(memory));
}

void Workspace::reserve_per_thread(std::int64_t bytes) {
    if (bytes <= thread_bytes_) return;
    const std::int64_t larger = rounded_up(bytes, 4096);
    per_thread_ = allocate_memory(larger * threads_);
    thread_bytes_ = larger;
}

void Workspace::reserve_shared(std::int64_t bytes) {
    if (bytes <= shared_bytes_) return;
    const std::int64_t larger = rounded_up(bytes, 4096);
    shared_ = allocate_memory(larger);
    shared_bytes_ = larger;
}

}  // namespace duologue::cpu
