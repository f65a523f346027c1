// Capturing part by part; launching part by part.
#include "backend/cuda/graph_repeater.h"

#include "backend/cuda/check.h"

namespace duologue::cuda {

namespace {

struct GraphDeleter {
    void operator()(cudaGraph_t graph) const { cudaGraphDestroy(graph); }
};
using Graph = std::unique_ptr<std::remove_pointer_t<cudaGraph_t>, GraphDeleter>;

}  // namespace

// The capture of one work. It ends with this, whatever happens.
class GraphRepeater::Capture {
   public:
    explicit Capture(GraphRepeater& owner) : owner_(owner), stream_(owner.stream_) {
        begin();
        owner_.capture_ = this;
    }
    ~Capture() {
        owner_.capture_ = nullptr;
        if (!capturing_) return;
        cudaGraph_t graph = nullptr;
        cudaStreamEndCapture(stream_, &graph);
        cudaGetLastError();  // forgets why: an error is on its way
        if (graph != nullptr) cudaGraphDestroy(graph);
    }
    Capture(const Capture&) = delete;
    Capture& operator=(const Capture&) = delete;
    Capture(Capture&&) = delete;
    Capture& operator=(Capture&&) = delete;

    void cut(const Work& then) {
        end(then);
        begin();
    }
    [[nodiscard]] Recording finish() {
        end({});
        return std::move(recording_);
    }

   private:
    // In thread-local mode: the thread that watches NCCL goes on asking for events.
    void begin() {
        check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "beginning the capture of a graph");
        capturing_ = true;
    }
    void end(const Work& then) {
        capturing_ = false;
        cudaGraph_t captured = nullptr;
        check(cudaStreamEndCapture(stream_, &captured), "ending the capture of a graph");
        recording_.push_back({.graph = executable(Graph(captured)), .then = then});
    }
    static Executable executable(const Graph& graph) {
        std::size_t nodes = 0;
        check(cudaGraphGetNodes(graph.get(), nullptr, &nodes), "asking what a graph holds");
        if (nodes == 0) return {};
        cudaGraphExec_t made = nullptr;
        check(cudaGraphInstantiate(&made, graph.get(), 0), "making a graph executable");
        return Executable(made);
    }

    GraphRepeater& owner_;
    cudaStream_t stream_;
    bool capturing_ = false;
    Recording recording_;
};

void GraphRepeater::run(const Key& key, const Work& work) {
    require(capture_ == nullptr, ErrorCode::kInternal, "a work that is repeated runs another");
    if (const Recording* known = recordings_.find(key)) return replay(*known);
    if (met_.insert(key).second) return work();
    replay(recordings_.insert(key, record(work)));
}

void GraphRepeater::between(const Work& call) {
    if (capture_ == nullptr) return call();
    capture_->cut(call);
}

GraphRepeater::Recording GraphRepeater::record(const Work& work) {
    try {
        Capture capture(*this);
        work();
        return capture.finish();
    } catch (const Error& error) {
        throw Error(error.code(), fmt::format("{}; this was while a micro-batch was captured into CUDA graphs, "
                                              "device.graphs=false does without them",
                                              error.what()));
    }
}

void GraphRepeater::replay(const Recording& recording) {
    for (const Part& part : recording) {
        if (part.graph) check(cudaGraphLaunch(part.graph.get(), stream_), "launching a graph");
        if (part.then) part.then();
    }
}

}  // namespace duologue::cuda
