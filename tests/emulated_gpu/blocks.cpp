// Fibers for the threads of a block, and the barriers at which they change.
#include "emulated_gpu/blocks.h"

#include <ucontext.h>

#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "emulated_gpu/language.h"

namespace emulated_gpu {

namespace {

constexpr unsigned kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffU;
constexpr std::size_t kStackBytes = std::size_t{64} << 10;
constexpr std::size_t kColours = 61;
constexpr std::size_t kColourBytes = 576;

enum class State : std::uint8_t { kReady, kAtWarpBarrier, kAtBlockBarrier, kDone };

// 16 bytes on their way to shared memory.
struct Copy {
    void* to = nullptr;
    const void* from = nullptr;
    std::size_t bytes = 0;
    std::size_t group = 0;
};
constexpr std::size_t kCopyBytes = 16;

// A thread: where it goes on, and what it waits for. Its stack outlives it, and serves the next block's.
struct Fiber {
    std::unique_ptr<std::byte[]> stack = std::make_unique_for_overwrite<std::byte[]>(kStackBytes);
    ucontext_t begin = {};
    std::jmp_buf place = {};
    bool begun = false;
    uint3 index = {};
    State state = State::kDone;
    unsigned exchange = 0;       // which of its warp's two boards its next exchange uses
    std::vector<Copy> copies;    // that it has not waited for
    std::size_t copy_group = 0;  // of those that it begins
};

// What the lanes of a warp show each other. Two in turn: a lane writes to one while slower ones still read the other.
using Board = Words[2][kWarp];
struct Boards {
    Board lanes = {};
};

class Processor {
   public:
    void run(const Grid& grid, Order order, const std::function<void()>& thread) {
        thread_ = &thread;
        order_ = order;
        blockDim = grid.threads;
        gridDim = grid.blocks;
        threads_ = grid.threads.x * grid.threads.y * grid.threads.z;
        while (fibers_.size() < threads_) add_fiber();
        boards_.resize((threads_ + kWarp - 1) / kWarp);
        shared_.resize(grid.shared_bytes / sizeof(float));
        for (unsigned z = 0; z < grid.blocks.z; ++z) {
            for (unsigned y = 0; y < grid.blocks.y; ++y) {
                for (unsigned x = 0; x < grid.blocks.x; ++x) run_block({x, y, z});
            }
        }
    }

    void wait(State for_what) {
        Fiber& own = *current_;
        own.state = for_what;
        change(own.place, scheduler_);
    }
    [[nodiscard]] Fiber& current() { return *current_; }
    [[nodiscard]] unsigned thread() const { return number_; }
    [[nodiscard]] Board& board() { return boards_[number_ / kWarp].lanes; }
    [[nodiscard]] float* shared() { return shared_.data(); }

   private:
    // Where everything goes on when `to` was left by this function.
    [[gnu::noinline]] static void change(std::jmp_buf& from, std::jmp_buf& to) {
        if (_setjmp(from) == 0) _longjmp(to, 1);
    }
    [[gnu::noinline]] static void begin(std::jmp_buf& from, const ucontext_t& fiber) {
        if (_setjmp(from) == 0) setcontext(&fiber);
    }
    static void live();

    void add_fiber() {
        fibers_.push_back(std::make_unique<Fiber>());
        Fiber& fiber = *fibers_.back();
        getcontext(&fiber.begin);
        fiber.begin.uc_stack.ss_sp = fiber.stack.get();
        // Tops of stacks that all lie at the same place of a page would push each other out of the cache.
        fiber.begin.uc_stack.ss_size = kStackBytes - fibers_.size() % kColours * kColourBytes;
        makecontext(&fiber.begin, &Processor::live, 0);
    }

    void run_block(const uint3& block) {
        blockIdx = block;
        std::fill(shared_.begin(), shared_.end(), std::numeric_limits<float>::quiet_NaN());
        for (unsigned i = 0; i < threads_; ++i) {
            fibers_[i]->index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
            fibers_[i]->state = State::kReady;
            fibers_[i]->exchange = 0;
            fibers_[i]->copy_group = 0;
        }
        const unsigned warps = (threads_ + kWarp - 1) / kWarp;
        while (true) {
            for (unsigned i = 0; i < warps; ++i) run_warp(order_ == Order::kForward ? i : warps - 1 - i);
            bool waiting = false;
            for (unsigned i = 0; i < threads_; ++i) {
                if (fibers_[i]->state != State::kAtBlockBarrier) continue;
                fibers_[i]->state = State::kReady;
                waiting = true;
            }
            if (!waiting) return;
        }
    }

    // Up to where every thread of it is done or waits for the block.
    void run_warp(unsigned warp) {
        const unsigned begin = warp * kWarp;
        const unsigned count = std::min(kWarp, threads_ - begin);
        while (true) {
            unsigned waiting = 0;
            for (unsigned i = 0; i < count; ++i) {
                const unsigned number = begin + (order_ == Order::kForward ? i : count - 1 - i);
                Fiber& fiber = *fibers_[number];
                if (fiber.state == State::kReady) resume(number);
                waiting += fiber.state == State::kAtWarpBarrier ? 1 : 0;
            }
            if (waiting == 0) return;
            if (waiting != kWarp) refuse("a barrier or shuffle of a warp that some of its threads do not come to");
            for (unsigned i = 0; i < count; ++i) fibers_[begin + i]->state = State::kReady;
        }
    }

    void resume(unsigned number) {
        Fiber& fiber = *fibers_[number];
        number_ = number;
        current_ = &fiber;
        threadIdx = fiber.index;
        if (fiber.begun) {
            change(scheduler_, fiber.place);
        } else {
            fiber.begun = true;
            begin(scheduler_, fiber.begin);
        }
    }

    const std::function<void()>* thread_ = nullptr;
    Order order_ = Order::kForward;
    unsigned threads_ = 0;
    unsigned number_ = 0;
    Fiber* current_ = nullptr;
    std::jmp_buf scheduler_ = {};
    std::vector<std::unique_ptr<Fiber>> fibers_;
    std::vector<Boards> boards_;
    std::vector<float> shared_;
};

Processor& processor() {
    static Processor only;
    return only;
}

// A fiber's whole life: one thread after the other.
void Processor::live() {
    while (true) {
        (*processor().thread_)();
        if (!processor().current().copies.empty()) refuse("copies to shared memory that nobody waited for");
        processor().wait(State::kDone);
    }
}

}  // namespace

cudaError_t grid_error(const Grid& grid, std::size_t most_shared_bytes) {
    const auto [blocks, threads, shared_bytes] = grid;
    const std::uint64_t all = std::uint64_t{threads.x} * threads.y * threads.z;
    const bool fits = all > 0 && all <= kMostThreads && threads.z <= 64 && blocks.x > 0 && blocks.x <= 0x7fffffffU &&
                      blocks.y > 0 && blocks.y <= kMostBlocksInYAndZ && blocks.z > 0 &&
                      blocks.z <= kMostBlocksInYAndZ && shared_bytes <= most_shared_bytes;
    return fits ? cudaSuccess : cudaErrorInvalidConfiguration;
}

void run_grid(const Grid& grid, Order order, const std::function<void()>& thread) {
    processor().run(grid, order, thread);
}

void block_barrier() { processor().wait(State::kAtBlockBarrier); }

void warp_barrier(unsigned mask) {
    if (mask != kAllLanes) refuse("only whole warps are known here");
    processor().wait(State::kAtWarpBarrier);
}

unsigned lane() { return processor().thread() % kWarp; }

std::uint32_t shuffled(unsigned mask, std::uint32_t bits, unsigned source) {
    if (mask != kAllLanes) refuse("only whole warps are known here");
    return exchanged({bits})[source % kWarp][0];
}

const Words* exchanged(const Words& words) {
    Board& board = processor().board();
    const unsigned side = processor().current().exchange++ % 2;
    board[side][lane()] = words;
    warp_barrier(kAllLanes);
    return board[side];
}

float* shared_memory() { return processor().shared(); }

void begin_copy(void* shared, const void* from, int bytes) {
    if (reinterpret_cast<std::uintptr_t>(shared) % kCopyBytes != 0 ||
        reinterpret_cast<std::uintptr_t>(from) % kCopyBytes != 0) {
        refuse("a copy to shared memory that is not aligned");
    }
    std::memset(shared, 0xff, kCopyBytes);
    Fiber& own = processor().current();
    own.copies.push_back(
        {.to = shared, .from = from, .bytes = static_cast<std::size_t>(bytes), .group = own.copy_group});
}

void end_copy_group() { ++processor().current().copy_group; }

void wait_for_copies(std::size_t pending) {
    Fiber& own = processor().current();
    std::erase_if(own.copies, [&](const Copy& copy) {
        if (copy.group + pending >= own.copy_group) return false;
        std::memset(copy.to, 0, kCopyBytes);
        std::memcpy(copy.to, copy.from, copy.bytes);
        return true;
    });
}

void refuse(const char* why) {
    std::fprintf(stderr, "emulated GPU: block (%u,%u,%u), thread (%u,%u,%u): %s\n", blockIdx.x, blockIdx.y, blockIdx.z,
                 threadIdx.x, threadIdx.y, threadIdx.z, why);
    std::abort();
}

}  // namespace emulated_gpu
