// A GPU that is not there: CUDA's streams and events and NCCL over host memory, for what stands around them.
#pragma once

#include <string>
#include <vector>

namespace duologue {

/// What the process's GPU does. Collectives really sum, by MPI; streams run what they are given at once.
struct FakeGpu {
    bool hangs = false;           ///< collectives and what follows them never end
    bool fails_later = false;     ///< NCCL takes collectives and reports an error afterwards
    bool never_connects = false;  ///< NCCL's set-up stays in progress
    bool capturing = false;       ///< the compute stream is captured
    int aborted = 0;              ///< how many times NCCL was told to abort
    int finalized = 0;
    std::vector<std::string> calls;  ///< of streams and collectives, in order
};

/// The one of this process: the functions that it stands behind have no other way to know it.
[[nodiscard]] FakeGpu& fake_gpu();

}  // namespace duologue
