// The functions of the CUDA runtime that upload_ring.cpp and graph_repeater.cpp call. Linked before the library, they
// are called.
#include "support/fake_streams.h"

#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <vector>

namespace {

struct Event;

// One piece of a stream's work: something to run, an event to record, or an event to wait for.
struct Piece {
    std::function<void()> run;
    Event* records = nullptr;
    Event* waits_for = nullptr;
    std::int64_t ticket = 0;  // which recording of the event
};

using Graph = std::vector<std::function<void()>>;

struct Stream {
    duologue::Pace pace = duologue::Pace::kLate;
    std::deque<Piece> queue;
    std::unique_ptr<Graph> captured;  // while the stream is captured
    bool capture_is_broken = false;
};

struct Event {
    Stream* stream = nullptr;
    std::int64_t recorded = 0;
    std::int64_t done = 0;
};

Stream& of(cudaStream_t stream) { return *reinterpret_cast<Stream*>(stream); }
Event& of(cudaEvent_t event) { return *reinterpret_cast<Event*>(event); }
Graph& of(cudaGraph_t graph) { return *reinterpret_cast<Graph*>(graph); }
Graph& of(cudaGraphExec_t graph) { return *reinterpret_cast<Graph*>(graph); }

void run_first(Stream& stream);

void finish(const Event& event, std::int64_t ticket) {
    while (event.done < ticket) run_first(*event.stream);
}

// With what it waits for.
void run_first(Stream& stream) {
    const Piece piece = std::move(stream.queue.front());
    stream.queue.pop_front();
    if (piece.waits_for != nullptr) finish(*piece.waits_for, piece.ticket);
    if (piece.records != nullptr) piece.records->done = piece.ticket;
    if (piece.run) piece.run();
}

bool blocked(const Stream& stream) {
    const Piece& first = stream.queue.front();
    return first.waits_for != nullptr && first.waits_for->done < first.ticket;
}

void queue(Stream& stream, Piece piece) {
    stream.queue.push_back(std::move(piece));
    while (stream.pace == duologue::Pace::kAtOnce && !stream.queue.empty() && !blocked(stream)) run_first(stream);
}

void queue_or_capture(Stream& stream, std::function<void()> run) {
    if (stream.captured) {
        stream.captured->push_back(std::move(run));
    } else {
        queue(stream, {.run = std::move(run)});
    }
}

// What a stream that is captured must not be asked for.
cudaError_t refuse_in_capture(Stream& stream, cudaError_t error) {
    if (!stream.captured) return cudaSuccess;
    stream.capture_is_broken = true;
    return error;
}

cudaError_t result_of(const char* function) {
    return duologue::fake_streams().fails == function ? cudaErrorUnknown : cudaSuccess;
}

}  // namespace

namespace duologue {

FakeStreams& fake_streams() {
    static FakeStreams streams;
    return streams;
}

void launch_fake_kernel(cudaStream_t stream, std::function<void()> run) {
    queue_or_capture(of(stream), std::move(run));
}

}  // namespace duologue

using duologue::fake_streams;

extern "C" {

cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorString(cudaError_t) { return "a fake error"; }
const char* cudaGetErrorName(cudaError_t error) {
    return error == cudaErrorStreamCaptureIsolation     ? "cudaErrorStreamCaptureIsolation"
           : error == cudaErrorStreamCaptureInvalidated ? "cudaErrorStreamCaptureInvalidated"
                                                        : "fake";
}
cudaError_t cudaMalloc(void** memory, size_t bytes) {
    *memory = std::malloc(bytes);
    return cudaSuccess;
}
cudaError_t cudaFree(void* memory) {
    std::free(memory);
    return cudaSuccess;
}
cudaError_t cudaMallocHost(void** memory, size_t bytes) { return cudaMalloc(memory, bytes); }
cudaError_t cudaFreeHost(void* memory) { return cudaFree(memory); }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned int) {
    *stream = reinterpret_cast<cudaStream_t>(new Stream{.pace = fake_streams().pace});
    return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    delete &of(stream);
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    const cudaError_t refusal = refuse_in_capture(of(stream), cudaErrorStreamCaptureUnsupported);
    if (!of(stream).queue.empty()) ++fake_streams().host_waits;
    while (!of(stream).queue.empty()) run_first(of(stream));
    return refusal;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned int) {
    *event = reinterpret_cast<cudaEvent_t>(new Event);
    return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
    delete &of(event);
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    const cudaError_t refusal = refuse_in_capture(of(stream), cudaErrorNotSupported);
    if (refusal != cudaSuccess) return refusal;
    of(event).stream = &of(stream);
    queue(of(stream), {.run = {}, .records = &of(event), .ticket = ++of(event).recorded});
    return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    if (of(event).done < of(event).recorded) ++fake_streams().host_waits;
    finish(of(event), of(event).recorded);
    return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int) {
    const cudaError_t refusal = refuse_in_capture(of(stream), cudaErrorStreamCaptureIsolation);
    if (refusal != cudaSuccess) return refusal;
    queue(of(stream), {.run = {}, .waits_for = &of(event), .ticket = of(event).recorded});
    return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
    queue_or_capture(of(stream), [=] { std::memcpy(to, from, bytes); });
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
    if (mode != cudaStreamCaptureModeThreadLocal || of(stream).captured) return cudaErrorIllegalState;
    of(stream).captured = std::make_unique<Graph>();
    of(stream).capture_is_broken = false;
    return result_of("cudaStreamBeginCapture");
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
    *graph = nullptr;
    if (!of(stream).captured) return cudaErrorIllegalState;
    const std::unique_ptr<Graph> captured = std::move(of(stream).captured);
    if (of(stream).capture_is_broken) return cudaErrorStreamCaptureInvalidated;
    *graph = reinterpret_cast<cudaGraph_t>(new Graph(*captured));
    return cudaSuccess;
}
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
    if (nodes != nullptr) return cudaErrorNotSupported;
    *count = of(graph).size();
    return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete &of(graph);
    return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
    *executable = nullptr;
    if (result_of("cudaGraphInstantiate") != cudaSuccess) return cudaErrorUnknown;
    *executable = reinterpret_cast<cudaGraphExec_t>(new Graph(of(graph)));
    ++fake_streams().instantiated;
    ++fake_streams().alive;
    return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
    delete &of(executable);
    --fake_streams().alive;
    return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
    for (const auto& run : of(executable)) queue_or_capture(of(stream), run);
    ++fake_streams().launched;
    return cudaSuccess;
}

}  // extern "C"
