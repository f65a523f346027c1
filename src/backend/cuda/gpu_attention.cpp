// Which attention computes what, and timing them where that decides.
#include "backend/cuda/gpu_attention.h"

#include <algorithm>

#include "backend/cuda/check.h"

namespace duologue::cuda {

namespace {

std::int64_t own_scratch_bytes(const Attention& operation) {
    return operation.q.rows * operation.heads * size_of(DataType::kF32);
}

}  // namespace

void require_head(const Attention& operation) {
    const std::int64_t columns = operation.q.columns / operation.heads;
    require(columns <= kMaxHeadColumns, ErrorCode::kConfiguration,
            "heads of {} columns (model.width / model.heads); attention on the GPU takes {} at most", columns,
            kMaxHeadColumns);
}

GpuAttention::GpuAttention(const Launch& launch, int capability, const CudaOptions& options)
    : launch_(launch),
      choice_(options.attention),
      deterministic_(options.deterministic),
      stopwatch_(launch.stream),
      cudnn_(options.attention == AttentionChoice::kOwn
                 ? nullptr
                 : std::make_unique<CudnnAttention>(launch, capability, options.deterministic)) {}

std::string GpuAttention::description() const {
    return cudnn_ == nullptr ? "own attention" : "cuDNN " + cudnn_version();
}

std::optional<GpuAttention::Path> GpuAttention::path_of(const Attention& operation) const {
    switch (choice_) {
        case AttentionChoice::kOwn:
            return Path::kOwn;
        case AttentionChoice::kCudnn:
            return Path::kCudnn;
        case AttentionChoice::kAuto:
            break;
    }
    if (operation.q.type == DataType::kF32) return Path::kOwn;
    if (!takes_head(operation.q.type, operation.q.columns / operation.heads)) return Path::kCudnn;
    if (deterministic_ == Deterministic::kYes) return Path::kOwn;  // has a fixed order without taking longer for it
    return faster_;
}

void GpuAttention::forward(const Tensor& y, const Tensor& stats, const Attention& operation) {
    if (y.rows == 0) return;
    const std::optional<Path> path = path_of(operation);
    if (!path && !is_captured(launch_.stream)) faster_ = faster(y, stats, operation);
    run_forward(path.value_or(faster_.value_or(Path::kCudnn)), y, stats, operation);
}

void GpuAttention::backward(const AttentionGradients& gradients, const Tensor& scratch, const Attention& operation) {
    run_backward(path_of(operation).value_or(Path::kCudnn), gradients, scratch, operation);
}

std::int64_t GpuAttention::scratch_bytes(const Attention& operation) const {
    const bool may_be_cudnn = path_of(operation) == Path::kCudnn || faster_ || !path_of(operation);
    return may_be_cudnn ? std::max(own_scratch_bytes(operation), cudnn_->scratch_bytes(operation))
                        : own_scratch_bytes(operation);
}

// The gradients of the trial are of y itself, which is as good as any.
GpuAttention::Path GpuAttention::faster(const Tensor& y, const Tensor& stats, const Attention& operation) const {
    const auto bytes = [&](const Tensor& like) { return like.rows * operation.q.columns * size_of(like.type); };
    const TrialMemory dq(bytes(operation.q));
    const TrialMemory dk(bytes(operation.k) + 1);
    const TrialMemory dv(bytes(operation.k) + 1);
    const std::int64_t scratch_size = stats.empty() ? 1 : scratch_bytes(operation);
    const TrialMemory scratch(scratch_size);
    for (const TrialMemory* memory : {&dq, &dk, &dv, &scratch}) {
        if (memory->data() == nullptr) return Path::kCudnn;
    }
    const auto gradient = [&](const TrialMemory& memory, const Tensor& of) {
        return make_tensor(memory.data(), of.type, of.rows, of.columns);
    };
    const AttentionGradients gradients{.dq = gradient(dq, operation.q),
                                       .dk = gradient(dk, operation.k),
                                       .dv = gradient(dv, operation.v),
                                       .dy = y,
                                       .y = y,
                                       .stats = stats,
                                       .products = static_cast<float*>(scratch.data())};
    const auto milliseconds = [&](Path path) {
        return stopwatch_.milliseconds([&] {
            run_forward(path, y, stats, operation);
            if (stats.empty()) return;
            run_backward(path, gradients, make_vector(scratch.data(), DataType::kU8, scratch_size), operation);
        });
    };
    return milliseconds(Path::kCudnn) < milliseconds(Path::kOwn) ? Path::kCudnn : Path::kOwn;
}

void GpuAttention::run_forward(Path path, const Tensor& y, const Tensor& stats, const Attention& operation) const {
    if (path == Path::kCudnn) return cudnn_->forward(y, stats, operation);
    require_head(operation);
    check(attention_forward(launch_, y, stats, operation), "attention_forward");
}

void GpuAttention::run_backward(Path path, const AttentionGradients& gradients, const Tensor& scratch,
                                const Attention& operation) const {
    if (path == Path::kCudnn) return cudnn_->backward(gradients, scratch, operation);
    require_head(operation);
    check(attention_backward(launch_, gradients, operation), "attention_backward");
}

}  // namespace duologue::cuda
