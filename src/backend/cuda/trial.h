// What it takes to try and time work before it is used: memory, and a clock.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "backend/cuda/check.h"
#include "backend/cuda/streams.h"

namespace duologue::cuda {

/// Device memory while it is needed, outside of steps. `data` is null when there is none to be had.
class TrialMemory {
   public:
    explicit TrialMemory(std::int64_t bytes) {
        if (cudaMalloc(&data_, static_cast<std::size_t>(bytes)) == cudaSuccess) return;
        data_ = nullptr;
        cudaGetLastError();  // forgets the failure
    }
    ~TrialMemory() { cudaFree(data_); }
    TrialMemory(const TrialMemory&) = delete;
    TrialMemory& operator=(const TrialMemory&) = delete;
    TrialMemory(TrialMemory&&) = delete;
    TrialMemory& operator=(TrialMemory&&) = delete;
    [[nodiscard]] void* data() const { return data_; }

   private:
    void* data_ = nullptr;
};

class Stopwatch {
   public:
    explicit Stopwatch(cudaStream_t stream) : stream_(stream), begin_(make_timed_event()), end_(make_timed_event()) {}

    /// Milliseconds of kRuns calls of `work`, which queues on the stream, after one that loads what it needs.
    template <class Work>
    [[nodiscard]] float milliseconds(const Work& work) const {
        work();
        check(cudaEventRecord(begin_.get(), stream_), "timing");
        for (int i = 0; i < kRuns; ++i) work();
        check(cudaEventRecord(end_.get(), stream_), "timing");
        check(cudaEventSynchronize(end_.get()), "timing");
        float milliseconds = 0.0F;
        check(cudaEventElapsedTime(&milliseconds, begin_.get(), end_.get()), "timing");
        return milliseconds;
    }

   private:
    static constexpr int kRuns = 3;

    static Event make_timed_event() {
        cudaEvent_t event = nullptr;
        check(cudaEventCreate(&event), "making an event");
        return Event(event);
    }

    cudaStream_t stream_;
    Event begin_;
    Event end_;
};

[[nodiscard]] inline bool is_captured(cudaStream_t stream) {
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    check(cudaStreamIsCapturing(stream, &status), "asking whether the stream is captured");
    return status != cudaStreamCaptureStatusNone;
}

}  // namespace duologue::cuda
