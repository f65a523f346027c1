// Blocks of GPU threads on one thread of the processor: every thread of a block is a fiber that runs up to a barrier.
#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace emulated_gpu {

/// The largest block, its shared memory without and with being asked for, and the most blocks in y and z.
inline constexpr unsigned kMostThreads = 1024;
inline constexpr std::size_t kPlainSharedBytes = std::size_t{48} << 10;
inline constexpr std::size_t kMostSharedBytes = std::size_t{227} << 10;
inline constexpr unsigned kMostBlocksInYAndZ = 65535;

/// In which order the threads of a block come up to each barrier. A kernel without races computes the same in each.
enum class Order : std::uint8_t { kForward, kBackward };

struct Grid {
    dim3 blocks;
    dim3 threads;
    std::size_t shared_bytes = 0;
};

/// What a launch of this grid is refused with, or cudaSuccess.
[[nodiscard]] cudaError_t grid_error(const Grid& grid, std::size_t most_shared_bytes);

/// Runs every thread of every block. Ends the process, saying why, at a barrier or a shuffle of a warp that some of its
/// threads never come to.
void run_grid(const Grid& grid, Order order, const std::function<void()>& thread);

// --- what the threads call

/// All threads of the block that have not returned.
void block_barrier();
/// All 32 threads of the warp.
void warp_barrier(unsigned mask);
/// The bits that lane `source` of the warp gave; waits for all of the warp.
[[nodiscard]] std::uint32_t shuffled(unsigned mask, std::uint32_t bits, unsigned source);
/// As many words as a lane shows the others at a time.
using Words = std::array<std::uint32_t, 6>;
/// What the lanes of the warp gave, by lane; waits for all of them. Holds until this lane's next exchange.
[[nodiscard]] const Words* exchanged(const Words& words);
[[nodiscard]] unsigned lane();
/// Of the block, NaN before it begins.
[[nodiscard]] float* shared_memory();

/// Copies 16 bytes when the thread waits for them, the first `bytes` from memory, the others 0. Until then they are
/// NaN.
void begin_copy(void* shared, const void* from, int bytes);
/// Makes a group of the copies begun since the last.
void end_copy_group();
/// Waits for all groups of the thread but the last `pending`.
void wait_for_copies(std::size_t pending);

/// Ends the process, saying which thread did what.
[[noreturn]] void refuse(const char* why);

}  // namespace emulated_gpu
