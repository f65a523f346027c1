// Arena: stack-like scratch memory that is first measured (planning), then bound to memory of that size.
#pragma once

#include <cstddef>
#include <cstdint>

#include "duologue/core/tensor.h"

namespace duologue {

/// A bump allocator whose lifetimes are C++ scopes. The same code runs twice over it: unbound (`Arena()`), which hands
/// out addresses that must not be dereferenced and records the peak, and bound to memory of that peak. What the plan
/// says is therefore what the run uses.
class Arena {
   public:
    static constexpr std::int64_t kAlignment = 256;  // bytes; enough for every back end

    Arena() = default;                        // measuring
    Arena(void* memory, std::int64_t bytes);  // bound; `memory` aligned to kAlignment, not owned

    /// A contiguous tensor with undefined contents, valid until the enclosing Scope ends. Throws kInternal when a
    /// bound arena is exhausted.
    [[nodiscard]] Tensor allocate(DataType type, std::int64_t rows, std::int64_t columns);
    [[nodiscard]] Tensor allocate_vector(DataType type, std::int64_t length) { return allocate(type, 1, length); }

    [[nodiscard]] std::int64_t used_bytes() const { return used_; }
    [[nodiscard]] std::int64_t peak_bytes() const { return peak_; }

    /// Gives back, at its end, everything allocated since its beginning.
    class Scope {
       public:
        explicit Scope(Arena& arena) : arena_(arena), mark_(arena.used_) {}
        ~Scope() { arena_.used_ = mark_; }
        Scope(const Scope&) = delete;
        Scope& operator=(const Scope&) = delete;
        Scope(Scope&&) = delete;
        Scope& operator=(Scope&&) = delete;

       private:
        Arena& arena_;
        std::int64_t mark_;
    };

   private:
    std::byte* memory_ = nullptr;
    std::int64_t capacity_ = -1;  // -1: measuring
    std::int64_t used_ = 0;
    std::int64_t peak_ = 0;
};

}  // namespace duologue
