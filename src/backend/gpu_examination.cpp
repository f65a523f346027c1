// What is found about the GPU of a rank, through the interface that every build has.
#include "duologue/backend/cuda_backend.h"
#include "duologue/backend/examination.h"
#include "duologue/backend/matmul_rate.h"

namespace duologue {

namespace {

/// The GPU at work: what it is, and how fast it multiplies.
Findings examine_gpu(int device) {
    const std::unique_ptr<CudaBackend> gpu = make_cuda_backend({.device = device});
    const double rate = measure_matmul_flops_per_second(*gpu, DataType::kBf16);
    return {fine("GPU", gpu->description()), fine("GPU bf16 matmul", fmt::format("{:.1f} TFLOP/s", rate * 1e-12))};
}

}  // namespace

Findings examine_cuda(int local_rank, int local_ranks, GpuWanted wanted) {
    try {
        const int count = cuda_device_count();
        if (count == 0 && wanted == GpuWanted::kNo) return {fine("GPU", "none that this program can use")};
        if (count > 0 && local_ranks > count) {
            return {
                wrong(ErrorCode::kDevice, "GPU",
                      fmt::format("{} ranks on this host for {} {}", local_ranks, count, count == 1 ? "GPU" : "GPUs"),
                      fmt::format("start {} per host, or check CUDA_VISIBLE_DEVICES", count))};
        }
        return examine_gpu(local_rank);
    } catch (const Error& error) {
        return {wrong("GPU", error)};
    }
}

}  // namespace duologue
