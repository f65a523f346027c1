// The CUDA back end: memory, one stream, and the way from every operation to its kernel or library.
#include <string>
#include <utility>

#include "backend/cuda/cublaslt_matmul.h"
#include "backend/cuda/entry.h"
#include "backend/cuda/gpu_attention.h"
#include "backend/cuda/graph_repeater.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/streams.h"
#include "backend/cuda/trial.h"
#include "backend/cuda/upload_ring.h"
#include "duologue/core/arena.h"

namespace duologue::cuda {

namespace {

constexpr int kOldestCapability = 80;  // bf16 products need Ampere
// What matmul needs; every other operation takes less, or says so.
constexpr std::int64_t kWorkspaceBytes = 2 * kMatmulWorkspaceBytes;
// Some thousand rows of logits: products of fewer leave processors idle, and each piece's gradient of the output
// weights reads and writes all of their sums.
constexpr std::int64_t kPieceBytes = std::int64_t{384} << 20;
// Tiled micro-batches come in a few sizes, and twice as many works where several ranks sum gradients in the last.
constexpr std::size_t kMostGraphs = 128;

cudaDeviceProp properties_of(int device) {
    const int devices = device_count();
    require(device >= 0 && device < devices, ErrorCode::kDevice,
            "GPU {} was asked for, but this process can use {}; start as many ranks per host as it has GPUs, or choose "
            "device.kind=cpu",
            device, devices);
    cudaDeviceProp properties{};
    check(cudaGetDeviceProperties(&properties, device), "asking for the card's properties");
    const int capability = 10 * properties.major + properties.minor;
    require(capability >= kOldestCapability, ErrorCode::kDevice,
            "GPU {} ({}) is sm_{}; the CUDA back end needs sm_{} or newer", device, properties.name, capability,
            kOldestCapability);
    check(cudaSetDevice(device), "choosing the GPU");
    return properties;
}

DeviceBuffer allocate_zeroed(std::int64_t bytes, cudaStream_t stream) {
    void* data = nullptr;
    // What exists has an address, without bytes too.
    const cudaError_t status = cudaMalloc(&data, static_cast<std::size_t>(std::max(bytes, Arena::kAlignment)));
    if (status != cudaSuccess) {
        std::size_t free_bytes = 0;
        std::size_t all_bytes = 0;
        cudaGetLastError();  // forgets the failure
        cudaMemGetInfo(&free_bytes, &all_bytes);
        fail(ErrorCode::kDevice,
             "no GPU memory for {} bytes: {} of {} are free ({}); make micro-batches smaller "
             "(data.micro_batch_tokens)",
             bytes, free_bytes, all_bytes, cudaGetErrorString(status));
    }
    DeviceBuffer buffer(data, bytes, [](void* memory) { cudaFree(memory); });
    check(cudaMemsetAsync(data, 0, static_cast<std::size_t>(bytes), stream), "zeroing memory");
    return buffer;
}

void require_norm(const Tensor& x) {
    require(x.columns <= kMaxNormColumns, ErrorCode::kConfiguration,
            "model.width {}; layer norm on the GPU takes {} at most", x.columns, kMaxNormColumns);
}

class GpuBackend final : public CudaBackend {
   public:
    explicit GpuBackend(const CudaOptions& options)
        : device_(options.device),
          properties_(properties_of(options.device)),
          stream_(make_stream()),
          uploads_(stream_.get()),
          workspace_(allocate_zeroed(kWorkspaceBytes, stream_.get())),
          random_key_(allocate_zeroed(sizeof(std::uint64_t), stream_.get())),
          launch_{.stream = stream_.get(),
                  .multiprocessors = properties_.multiProcessorCount,
                  .workspace = {.data = workspace_.data(), .bytes = kWorkspaceBytes},
                  .random_key = static_cast<std::uint64_t*>(random_key_.data())},
          matmul_(launch_, capability(),
                  options.deterministic == Deterministic::kYes ? MatmulChoice::kHeuristic : MatmulChoice::kTimed),
          attention_(launch_, capability(), options),
          graphs_(options.graphs) {}
    ~GpuBackend() override { cudaStreamSynchronize(stream_.get()); }
    GpuBackend(const GpuBackend&) = delete;
    GpuBackend& operator=(const GpuBackend&) = delete;
    GpuBackend(GpuBackend&&) = delete;
    GpuBackend& operator=(GpuBackend&&) = delete;

    [[nodiscard]] std::string description() const override {
        return fmt::format("GPU {}: {}, sm_{}{}, {} multiprocessors, {:.1f} GiB; CUDA {}, cuBLASLt {}, {}", device_,
                           properties_.name, properties_.major, properties_.minor, properties_.multiProcessorCount,
                           static_cast<double>(properties_.totalGlobalMem) / 0x1p30, CUDART_VERSION,
                           cublasLtGetVersion(), attention_.description());
    }
    // cuDNN needs it, and graphs live on few sizes.
    [[nodiscard]] Packing packing() const override { return Packing::kTiled; }
    [[nodiscard]] std::int64_t piece_bytes() const override { return kPieceBytes; }
    [[nodiscard]] std::unique_ptr<Repeater> make_repeater() override {
        if (graphs_ == Graphs::kNo) return std::make_unique<PlainRepeater>();
        return std::make_unique<GraphRepeater>(stream_.get(), kMostGraphs);
    }
    [[nodiscard]] DeviceStream compute_stream() const override { return {.device = device_, .stream = stream_.get()}; }

   private:
    // --- memory

    // What waits, allocates or depends on more than memory cannot be part of a graph.
    void refuse_in_capture(const char* what) const {
        require(!is_captured(stream_.get()), ErrorCode::kInternal, "{} inside of work that is repeated", what);
    }

    DeviceBuffer do_allocate(std::int64_t bytes) override {
        refuse_in_capture("allocate");
        return allocate_zeroed(bytes, stream_.get());
    }
    void do_zero(const Tensor& y) override {
        check(cudaMemsetAsync(y.data, 0, static_cast<std::size_t>(y.bytes()), stream_.get()), "zero");
    }
    void do_copy(const Tensor& y, const Tensor& x) override {
        if (x.elements() == 0) return;
        const std::int64_t element = size_of(x.type);
        const auto pitch = [&](const Tensor& tensor) {
            return static_cast<std::size_t>(std::max(tensor.row_stride, tensor.columns) * element);
        };
        check(cudaMemcpy2DAsync(y.data, pitch(y), x.data, pitch(x), static_cast<std::size_t>(x.columns * element),
                                static_cast<std::size_t>(x.rows), cudaMemcpyDeviceToDevice, stream_.get()),
              "copy");
    }
    void do_upload(const Tensor& y, const void* host) override {
        refuse_in_capture("upload");
        uploads_.upload(y.data, host, y.bytes());
    }
    void do_download(void* host, const Tensor& x) override {
        refuse_in_capture("download");
        check(cudaMemcpyAsync(host, x.data, static_cast<std::size_t>(x.bytes()), cudaMemcpyDeviceToHost, stream_.get()),
              "download");
        do_synchronize();
    }
    void do_synchronize() override {
        refuse_in_capture("synchronize");
        check(cudaStreamSynchronize(stream_.get()), "waiting for the GPU");
    }
    void do_set_random_key(std::uint64_t key) override {
        refuse_in_capture("set_random_key");
        check(cuda::set_random_key(launch_, static_cast<std::uint64_t*>(random_key_.data()), key), "set_random_key");
    }

    // --- linear

    void do_matmul(const Tensor& y, const Matmul& operation) override { matmul_.run(y, operation); }
    [[nodiscard]] std::int64_t do_aux_bytes(Epilogue epilogue, DataType type, std::int64_t rows,
                                            std::int64_t columns) const override {
        return CublasLtMatmul::aux_bytes(epilogue, type, rows, columns);
    }
    void do_column_sum(const Tensor& db, const Tensor& dy, Write write) override {
        check(cuda::column_sum(launch_, db, dy, write), "column_sum");
    }

    // --- norm

    void do_residual_norm_forward(const Tensor& sum, const Tensor& y, const Tensor& mean, const Tensor& rstd,
                                  const ResidualNorm& operation) override {
        require_norm(y);
        check(cuda::residual_norm_forward(launch_, sum, y, mean, rstd, operation), "residual_norm_forward");
    }
    void do_residual_norm_backward(const ResidualNormGradients& gradients,
                                   const ResidualNormBackward& operation) override {
        require_norm(gradients.dx);
        check(cuda::residual_norm_backward(launch_, gradients, operation), "residual_norm_backward");
    }

    // --- attention

    void do_attention_forward(const Tensor& y, const Tensor& stats, const Attention& operation) override {
        attention_.forward(y, stats, operation);
    }
    void do_attention_backward(const Tensor& dq, const Tensor& dk, const Tensor& dv, const Tensor& dy, const Tensor& y,
                               const Tensor& stats, const Tensor& scratch, const Attention& operation) override {
        const AttentionGradients gradients{
            .dq = dq, .dk = dk, .dv = dv, .dy = dy, .y = y, .stats = stats, .products = scratch.as<float>()};
        attention_.backward(gradients, scratch, operation);
    }
    [[nodiscard]] std::int64_t do_attention_scratch_bytes(const Attention& operation) const override {
        return attention_.scratch_bytes(operation);
    }
    void do_attention_decode(const Tensor& y, const AttentionDecode& operation) override {
        require_head({.q = operation.q, .heads = operation.heads});
        check(cuda::attention_decode(launch_, y, operation), "attention_decode");
    }

    // --- embedding and loss

    void do_embedding_forward(const Tensor& y, const Embedding& operation) override {
        check(cuda::embedding_forward(launch_, y, operation), "embedding_forward");
    }
    void do_embedding_backward(const Tensor& dtable, const Tensor& dposition_table, const Tensor& dy,
                               const Embedding& operation) override {
        const std::int64_t bytes = embedding_workspace_bytes(dy.rows, dy.columns);
        require(bytes <= kWorkspaceBytes, ErrorCode::kDevice,
                "embedding_backward of {} rows of {} takes {} bytes of workspace, there are {}; make micro-batches "
                "smaller (data.micro_batch_tokens)",
                dy.rows, dy.columns, bytes, kWorkspaceBytes);
        check(cuda::embedding_backward(launch_, dtable, dposition_table, dy, operation), "embedding_backward");
    }
    void do_cross_entropy(const Tensor& losses, const Tensor& logits, const Tensor& targets, float smoothing,
                          LossGradient gradient) override {
        check(cuda::cross_entropy(launch_, losses, logits, targets, smoothing, gradient), "cross_entropy");
    }

    // --- elementwise, reduction, optimizer

    void do_add(const Tensor& y, const Tensor& a, const Tensor& b) override {
        check(cuda::add(launch_, y, a, b), "add");
    }
    void do_cast(const Tensor& y, const Tensor& x) override { check(cuda::cast(launch_, y, x), "cast"); }
    void do_dropout(const Tensor& y, const Tensor& x, const Dropout& dropout) override {
        check(cuda::dropout(launch_, y, x, dropout), "dropout");
    }
    void do_sum(const Tensor& y, const Tensor& x, Write write) override {
        check(cuda::sum(launch_, y, x, write), "sum");
    }
    void do_sum_squares(const Tensor& y, const Tensor& x, Write write) override {
        check(cuda::sum_squares(launch_, y, x, write), "sum_squares");
    }
    void do_adamw(const AdamW& operation) override { check(cuda::adamw(launch_, operation), "adamw"); }

    [[nodiscard]] int capability() const { return 10 * properties_.major + properties_.minor; }

    int device_;
    cudaDeviceProp properties_;
    Stream stream_;
    UploadRing uploads_;
    DeviceBuffer workspace_;
    DeviceBuffer random_key_;
    Launch launch_;
    CublasLtMatmul matmul_;
    GpuAttention attention_;
    Graphs graphs_;
};

}  // namespace

std::vector<CudaDevice> devices() {
    std::vector<CudaDevice> devices;
    for (int index = 0; index < device_count(); ++index) {
        cudaDeviceProp properties{};
        check(cudaGetDeviceProperties(&properties, index), "asking for the card's properties");
        if (10 * properties.major + properties.minor < kOldestCapability) continue;
        std::string id;
        for (const char byte : properties.uuid.bytes) id += fmt::format("{:02x}", static_cast<unsigned char>(byte));
        devices.push_back({.index = index, .id = id});
    }
    return devices;
}

int device_count() {
    int devices = 0;
    if (cudaGetDeviceCount(&devices) == cudaSuccess) return devices;
    cudaGetLastError();  // forgets the failure: no driver or no card is an answer
    return 0;
}

std::unique_ptr<CudaBackend> make_backend(const CudaOptions& options) { return std::make_unique<GpuBackend>(options); }

}  // namespace duologue::cuda
