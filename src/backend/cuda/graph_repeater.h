// GraphRepeater: work that is captured into CUDA graphs and launched again with one call for each.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <set>
#include <type_traits>
#include <vector>

#include "backend/cuda/recently_used.h"
#include "duologue/backend/repeater.h"

namespace duologue::cuda {

/// A key's first run calls the work: libraries choose their algorithms, compile and load then, which a capture does not
/// allow. The second run captures, and from then on the graphs are launched. A work is cut at its between() calls: what
/// they queue stays outside of the graphs. That is where collectives belong, because those of NCCL may be captured only
/// where all ranks capture and replay together, and ranks have micro-batches of different sizes.
class GraphRepeater final : public Repeater {
   public:
    /// Everything that works queue goes to `stream`, which outlives this. Graphs of the `most_works` that ran last are
    /// kept.
    GraphRepeater(cudaStream_t stream, std::size_t most_works) : stream_(stream), recordings_(most_works) {}

    /// Error kDevice where the work cannot be captured.
    void run(const Key& key, const Work& work) override;
    void between(const Work& call) override;

   private:
    struct ExecutableDeleter {
        void operator()(cudaGraphExec_t graph) const { cudaGraphExecDestroy(graph); }
    };
    using Executable = std::unique_ptr<std::remove_pointer_t<cudaGraphExec_t>, ExecutableDeleter>;
    /// A graph, null where nothing was queued, and what the host does behind it.
    struct Part {
        Executable graph;
        Work then;
    };
    using Recording = std::vector<Part>;
    class Capture;

    [[nodiscard]] Recording record(const Work& work);
    void replay(const Recording& recording);

    cudaStream_t stream_;
    std::set<Key> met_;
    RecentlyUsed<Key, Recording> recordings_;
    Capture* capture_ = nullptr;  // while a work is recorded
};

}  // namespace duologue::cuda
