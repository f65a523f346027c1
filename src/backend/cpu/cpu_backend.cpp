// The CPU back end: dispatch to the kernels, which are compiled for newer processors than this file.
#include "backend/cpu/cpu_backend.h"

#include <omp.h>

#include <cstring>

#include "backend/cpu/attention.h"
#include "backend/cpu/gemm.h"
#include "backend/cpu/gemm_epilogue.h"
#include "backend/cpu/loops.h"
#include "backend/cpu/onednn.h"
#include "backend/cpu/workspace.h"
#include "duologue/core/error.h"

namespace duologue::cpu {

namespace {

bool has_avx2() { return __builtin_cpu_supports("avx2") > 0 && __builtin_cpu_supports("fma") > 0; }
bool has_avx512() {
    return has_avx2() && __builtin_cpu_supports("avx512f") > 0 && __builtin_cpu_supports("avx512bw") > 0 &&
           __builtin_cpu_supports("avx512vl") > 0 && __builtin_cpu_supports("avx512dq") > 0;
}

bool has_avx512_bf16() { return has_avx512() && __builtin_cpu_supports("avx512bf16") > 0; }

MatmulRoute best_own_route(DataType type) {
    if (type == DataType::kBf16 && has_avx512_bf16()) return MatmulRoute::kAvx512Bf16;
    return has_avx512() ? MatmulRoute::kAvx512 : MatmulRoute::kAvx2;
}

constexpr std::int64_t kLibraryRows = 128;  // small enough that few rows are left over, large enough for few numbers

/// Our own kernel of a route; beside oneDNN the best for the type.
const MicroKernel& kernel_of(MatmulRoute route, DataType type) {
    switch (route) {
        case MatmulRoute::kAvx2:
            return avx2_kernel();
        case MatmulRoute::kWideOnAvx2:
            return wide_kernel_on_avx2();
        case MatmulRoute::kPairsOnAvx2:
            return pair_kernel_on_avx2();
        case MatmulRoute::kAvx512:
            return avx512_kernel();
        case MatmulRoute::kAvx512Bf16:
            return avx512_bf16_kernel();
        case MatmulRoute::kOneDnn:
        case MatmulRoute::kOneDnnMixed:
            return kernel_of(best_own_route(type), type);
    }
    fail(ErrorCode::kInternal, "the kernel of unknown matmul route {}", static_cast<int>(route));
}

class CpuBackend final : public Backend {
   public:
    explicit CpuBackend(const CpuOptions& options)
        : options_(options), workspace_(options.threads), onednn_(options.threads) {}

    [[nodiscard]] std::string description() const override {
        return fmt::format("cpu: {} thread{}, f32 matmul by {}, bf16 matmul by {}", options_.threads,
                           options_.threads == 1 ? "" : "s", name_of(options_.f32_route), name_of(options_.bf16_route));
    }

   private:
    DeviceBuffer do_allocate(std::int64_t bytes) override {
        Memory memory = allocate_memory(bytes);
        std::memset(memory.get(), 0, static_cast<std::size_t>(bytes));
        return {memory.release(), bytes, [](void* data) { FreeMemory{}(data); }};
    }
    void do_zero(const Tensor& y) override { cpu::zero(workspace_.threads(), y); }
    void do_copy(const Tensor& y, const Tensor& x) override { cpu::copy(workspace_.threads(), y, x); }
    void do_upload(const Tensor& y, const void* host) override {
        if (y.bytes() > 0) std::memcpy(y.data, host, static_cast<std::size_t>(y.bytes()));
    }
    void do_download(void* host, const Tensor& x) override {
        if (x.bytes() > 0) std::memcpy(host, x.data, static_cast<std::size_t>(x.bytes()));
    }
    void do_synchronize() override {}
    void do_set_random_key(std::uint64_t key) override { random_key_ = key; }

    void do_matmul(const Tensor& y, const Matmul& operation) override {
        const MatmulRoute route = route_of(operation.a.type);
        const bool empty = y.elements() == 0 || operation.a.elements() == 0;
        const bool small = y.rows <= kFewRows || empty;
        if (route == MatmulRoute::kOneDnn && !small) {
            onednn_.multiply(workspace_, y, operation);
        } else if (route == MatmulRoute::kOneDnnMixed && !small && OneDnnMatmul::takes_one_pass(operation)) {
            multiply_by_both(y, operation);
        } else {
            cpu::multiply(workspace_, kernel_of(route, operation.a.type), y, operation);
        }
        if (!operation.a_sums.empty()) do_column_sum(operation.a_sums, operation.a, operation.write);
    }
    /// By oneDNN as many rows of a as are a multiple of kLibraryRows, the rest by our own product: oneDNN generates
    /// code for each number of rows, and batches differ in theirs.
    void multiply_by_both(const Tensor& y, const Matmul& operation) {
        const bool onto_weights = operation.transpose_a == Transpose::kYes;  // rows of a are then summed over
        const std::int64_t rest = operation.a.rows % kLibraryRows;
        const std::int64_t whole = operation.a.rows - rest;
        const bool splits = !onto_weights || (operation.transpose_b == Transpose::kNo && y.type == DataType::kF32);
        const MicroKernel& own = kernel_of(MatmulRoute::kOneDnnMixed, operation.a.type);
        if (rest == 0 || !splits) return onednn_.multiply(workspace_, y, operation);
        if (whole == 0) return cpu::multiply(workspace_, own, y, operation);
        Matmul head = operation;
        Matmul tail = operation;
        head.a = operation.a.row_range(0, whole);
        tail.a = operation.a.row_range(whole, rest);
        if (onto_weights) {
            head.b = operation.b.row_range(0, whole);
            tail.b = operation.b.row_range(whole, rest);
            tail.write = Write::kAccumulate;
            tail.epilogue = Epilogue::kNone;
            tail.bias = {};
            onednn_.multiply(workspace_, y, head);
            cpu::multiply(workspace_, own, y, tail);
        } else {
            onednn_.multiply(workspace_, y.row_range(0, whole), head);
            cpu::multiply(workspace_, own, y.row_range(whole, rest), tail);
        }
    }
    [[nodiscard]] std::int64_t do_aux_bytes(Epilogue epilogue, DataType type, std::int64_t rows,
                                            std::int64_t columns) const override {
        return epilogue_aux_bytes(epilogue, type, rows, columns);
    }
    void do_column_sum(const Tensor& db, const Tensor& dy, Write write) override {
        cpu::column_sum(workspace_, db, dy, write);
    }
    void do_residual_norm_forward(const Tensor& sum, const Tensor& y, const Tensor& mean, const Tensor& rstd,
                                  const ResidualNorm& operation) override {
        cpu::residual_norm_forward(workspace_, random_key_, sum, y, mean, rstd, operation);
    }
    void do_residual_norm_backward(const ResidualNormGradients& gradients,
                                   const ResidualNormBackward& operation) override {
        cpu::residual_norm_backward(workspace_, random_key_, gradients, operation);
    }
    [[nodiscard]] MatmulRoute route_of(DataType type) const {
        return type == DataType::kBf16 ? options_.bf16_route : options_.f32_route;
    }
    [[nodiscard]] AttentionContext attention_context(DataType type) {
        return {.workspace = workspace_, .kernel = kernel_of(route_of(type), type), .random_key = random_key_};
    }
    void do_attention_forward(const Tensor& y, const Tensor& stats, const Attention& operation) override {
        cpu::attention_forward(attention_context(operation.q.type), y, stats, operation);
    }
    void do_attention_backward(const Tensor& dq, const Tensor& dk, const Tensor& dv, const Tensor& dy,
                               const Tensor& /*y*/, const Tensor& stats, const Tensor& /*scratch*/,
                               const Attention& operation) override {
        cpu::attention_backward(attention_context(operation.q.type),
                                {.dq = dq, .dk = dk, .dv = dv, .dy = dy, .stats = stats}, operation);
    }
    // Scratch is per thread and the back end's own.
    [[nodiscard]] std::int64_t do_attention_scratch_bytes(const Attention& /*operation*/) const override { return 0; }
    void do_attention_decode(const Tensor& y, const AttentionDecode& operation) override {
        cpu::attention_decode(workspace_, y, operation);
    }
    void do_embedding_forward(const Tensor& y, const Embedding& operation) override {
        cpu::embedding_forward(workspace_, random_key_, y, operation);
    }
    void do_embedding_backward(const Tensor& dtable, const Tensor& dposition_table, const Tensor& dy,
                               const Embedding& operation) override {
        cpu::embedding_backward(workspace_, random_key_, dtable, dposition_table, dy, operation);
    }
    void do_cross_entropy(const Tensor& losses, const Tensor& logits, const Tensor& targets, float smoothing,
                          LossGradient gradient) override {
        cpu::cross_entropy(workspace_, losses, logits, targets, smoothing, gradient);
    }
    void do_add(const Tensor& y, const Tensor& a, const Tensor& b) override { cpu::add(workspace_.threads(), y, a, b); }
    void do_cast(const Tensor& y, const Tensor& x) override { cpu::cast(workspace_.threads(), y, x); }
    void do_dropout(const Tensor& y, const Tensor& x, const Dropout& dropout) override {
        cpu::dropout(workspace_.threads(), random_key_, y, x, dropout);
    }
    void do_sum(const Tensor& y, const Tensor& x, Write write) override { cpu::sum(workspace_, y, x, write); }
    void do_sum_squares(const Tensor& y, const Tensor& x, Write write) override {
        cpu::sum_squares(workspace_, y, x, write);
    }
    void do_adamw(const AdamW& operation) override { cpu::adamw(workspace_.threads(), operation); }

    CpuOptions options_;
    Workspace workspace_;
    OneDnnMatmul onednn_;
    std::uint64_t random_key_ = 0;
};

}  // namespace

std::string name_of(MatmulRoute route) {
    switch (route) {
        case MatmulRoute::kAvx2:
            return "own AVX2 code";
        case MatmulRoute::kWideOnAvx2:
            return "own AVX2 code with wide tiles";
        case MatmulRoute::kPairsOnAvx2:
            return "own AVX2 code with pairs of bf16";
        case MatmulRoute::kAvx512:
            return "own AVX-512 code";
        case MatmulRoute::kAvx512Bf16:
            return "own AVX-512 BF16 code";
        case MatmulRoute::kOneDnn:
            return OneDnnMatmul::version();
        case MatmulRoute::kOneDnnMixed:
            return OneDnnMatmul::version() + " and, for activations and last rows, own AVX-512 BF16 code";
    }
    fail(ErrorCode::kInternal, "unknown matmul route {}", static_cast<int>(route));
}

bool can_take(MatmulRoute route, DataType type) {
    const bool bf16 = type == DataType::kBf16;
    switch (route) {
        case MatmulRoute::kAvx2:
        case MatmulRoute::kWideOnAvx2:
            return has_avx2();
        case MatmulRoute::kPairsOnAvx2:
            return has_avx2() && bf16;
        case MatmulRoute::kAvx512:
            return has_avx512();
        case MatmulRoute::kAvx512Bf16:
            return has_avx512_bf16() && bf16;
        case MatmulRoute::kOneDnn:
            return has_avx2() && OneDnnMatmul::supports(type);
        case MatmulRoute::kOneDnnMixed:
            return has_avx512_bf16() && bf16 && OneDnnMatmul::supports(type);
    }
    fail(ErrorCode::kInternal, "unknown matmul route {}", static_cast<int>(route));
}

// Where the processor multiplies bf16 itself, oneDNN's plain products are the fastest. Its second pass for an epilogue
// costs more than our own product, unless tiles (AMX) multiply several times faster than ours.
CpuOptions best_options(int threads) {
    CpuOptions best{
        .threads = threads, .f32_route = best_own_route(DataType::kF32), .bf16_route = best_own_route(DataType::kBf16)};
    if (can_take(MatmulRoute::kOneDnnMixed, DataType::kBf16)) {
        best.bf16_route = OneDnnMatmul::has_tiles() ? MatmulRoute::kOneDnn : MatmulRoute::kOneDnnMixed;
    }
    return best;
}

std::unique_ptr<Backend> make_cpu_backend(const CpuOptions& options) {
    require(options.threads >= 0, ErrorCode::kConfiguration, "{} threads: give 0 for every core, or a number",
            options.threads);
    require(has_avx2(), ErrorCode::kDevice,
            "the cpu back end needs a processor with AVX2 and FMA (x86-64-v3), which this one is not");
    for (const auto& [route, type] :
         {std::pair{options.f32_route, DataType::kF32}, std::pair{options.bf16_route, DataType::kBf16}}) {
        require(can_take(route, type), ErrorCode::kDevice, "this processor cannot run {} for {} matrices",
                name_of(route), name_of(type));
    }
    CpuOptions settled = options;
    if (settled.threads == 0) settled.threads = omp_get_num_procs();
    return std::make_unique<CpuBackend>(settled);
}

}  // namespace duologue::cpu

namespace duologue {

std::unique_ptr<Backend> make_cpu_backend(int threads) { return cpu::make_cpu_backend(cpu::best_options(threads)); }

}  // namespace duologue
