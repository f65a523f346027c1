// The CUDA runtime's functions for streams, events and graphs. Linked before the library, they are called.
#include "emulated_gpu/streams.h"

#include <atomic>
#include <chrono>
#include <deque>
#include <memory>
#include <set>
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
    emulated_gpu::Pace pace = emulated_gpu::Pace::kLate;
    std::deque<Piece> queue;
    std::unique_ptr<Graph> captured;  // while the stream is captured
    bool capture_is_broken = false;
};

struct Event {
    Stream* stream = nullptr;
    std::atomic<std::int64_t> recorded = 0;
    std::atomic<std::int64_t> done = 0;
    std::chrono::steady_clock::time_point time = {};  // of the recording that is done
};

std::set<Stream*>& streams() {
    static std::set<Stream*> all;
    return all;
}

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
    if (piece.records != nullptr) {
        piece.records->time = std::chrono::steady_clock::now();
        piece.records->done = piece.ticket;
    }
    if (piece.run) piece.run();
}

bool blocked(const Stream& stream) {
    const Piece& first = stream.queue.front();
    return first.waits_for != nullptr && first.waits_for->done < first.ticket;
}

void queue(Stream& stream, Piece piece) {
    stream.queue.push_back(std::move(piece));
    while (stream.pace == emulated_gpu::Pace::kAtOnce && !stream.queue.empty() && !blocked(stream)) run_first(stream);
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
    return emulated_gpu::gpu().fails == function ? cudaErrorUnknown : cudaSuccess;
}

}  // namespace

namespace emulated_gpu {

void queue_work(cudaStream_t stream, std::function<void()> run) { queue_or_capture(of(stream), std::move(run)); }

void finish_all_work() {
    for (Stream* stream : streams()) {
        while (!stream->queue.empty()) run_first(*stream);
    }
}

}  // namespace emulated_gpu

using emulated_gpu::gpu;

extern "C" {

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned int) {
    auto* made = new Stream{.pace = gpu().pace};
    streams().insert(made);
    *stream = reinterpret_cast<cudaStream_t>(made);
    return cudaSuccess;
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned int flags, int) {
    return cudaStreamCreateWithFlags(stream, flags);
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    while (!of(stream).queue.empty()) run_first(of(stream));
    streams().erase(&of(stream));
    delete &of(stream);
    return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
    *status = of(stream).captured ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    const cudaError_t refusal = refuse_in_capture(of(stream), cudaErrorStreamCaptureUnsupported);
    if (!of(stream).queue.empty()) ++gpu().host_waits;
    while (!of(stream).queue.empty()) run_first(of(stream));
    return refusal;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned int) {
    *event = reinterpret_cast<cudaEvent_t>(new Event);
    return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }
// The only one that other threads call.
cudaError_t cudaEventQuery(cudaEvent_t event) {
    return of(event).done < of(event).recorded ? cudaErrorNotReady : cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
    *milliseconds = std::chrono::duration<float, std::milli>(of(end).time - of(begin).time).count();
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
    if (of(event).done < of(event).recorded) ++gpu().host_waits;
    finish(of(event), of(event).recorded);
    return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int) {
    const cudaError_t refusal = refuse_in_capture(of(stream), cudaErrorStreamCaptureIsolation);
    if (refusal != cudaSuccess) return refusal;
    queue(of(stream), {.run = {}, .waits_for = &of(event), .ticket = of(event).recorded});
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
    ++gpu().instantiated;
    ++gpu().alive;
    return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
    delete &of(executable);
    --gpu().alive;
    return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
    for (const auto& run : of(executable)) queue_or_capture(of(stream), run);
    ++gpu().launched;
    return cudaSuccess;
}

}  // extern "C"
