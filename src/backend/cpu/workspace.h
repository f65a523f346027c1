// Workspace: the back end's own scratch memory, one part per thread and one shared; it grows and is then reused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "duologue/core/rounding.h"

namespace duologue::cpu {

constexpr std::int64_t kScratchAlignment = 64;  // bytes: one cache line

/// Uninitialised memory aligned to a huge page where it is large. Error kDevice when there is none.
struct FreeMemory {
    void operator()(void* memory) const;
};
using Memory = std::unique_ptr<std::byte, FreeMemory>;
[[nodiscard]] Memory allocate_memory(std::int64_t bytes);

/// Hands out consecutive aligned pieces of a scratch region.
class Scratch {
   public:
    explicit Scratch(std::byte* memory) : begin_(reinterpret_cast<std::uintptr_t>(memory)), next_(begin_) {}
    /// One whose pieces must not be used: it only counts.
    [[nodiscard]] static Scratch measuring() { return Scratch(nullptr); }

    template <class T>
    [[nodiscard]] T* take(std::int64_t count) {
        T* piece = reinterpret_cast<T*>(next_);
        next_ += static_cast<std::uintptr_t>(bytes_for<T>(count));
        return piece;
    }
    [[nodiscard]] std::int64_t taken_bytes() const { return static_cast<std::int64_t>(next_ - begin_); }
    /// What take<T>(count) consumes.
    template <class T>
    [[nodiscard]] static std::int64_t bytes_for(std::int64_t count) {
        const std::int64_t bytes = count * static_cast<std::int64_t>(sizeof(T));
        return rounded_up(bytes, kScratchAlignment);
    }

   private:
    std::uintptr_t begin_;
    std::uintptr_t next_;
};

class Workspace {
   public:
    explicit Workspace(int threads) : threads_(threads) {}
    [[nodiscard]] int threads() const { return threads_; }

    /// Makes room before a parallel region; what was there is lost. No allocation once the largest size was seen.
    void reserve_per_thread(std::int64_t bytes);
    void reserve_shared(std::int64_t bytes);

    [[nodiscard]] Scratch of_thread(int thread) const { return Scratch(per_thread_.get() + thread * thread_bytes_); }
    [[nodiscard]] Scratch shared() const { return Scratch(shared_.get()); }

   private:
    int threads_;
    Memory per_thread_;
    std::int64_t thread_bytes_ = 0;
    Memory shared_;
    std::int64_t shared_bytes_ = 0;
};

}  // namespace duologue::cpu
