// Describing products to cuBLASLt, choosing among its algorithms by time, and the paths beside it.
#include "backend/cuda/cublaslt_matmul.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "backend/cuda/buckets.h"
#include "backend/cuda/cublaslt_problem.h"
#include "duologue/core/bfloat16.h"

namespace duologue::cuda {

namespace {

constexpr int kCandidates = 8;

// cuBLASLt's activation epilogues pay on Hopper only, and are used where a row of aux has no gaps. See auxes_agree().
constexpr int kFusesActivationsFrom = 90;
constexpr std::int64_t kFusedColumnMultiple = 128;

bool has_activation(Epilogue epilogue) { return epilogue != Epilogue::kNone && epilogue != Epilogue::kBias; }

std::int64_t inner_of(const Matmul& operation) {
    return operation.transpose_a == Transpose::kYes ? operation.a.rows : operation.a.columns;
}

// Rows [begin, begin + count) of op(a).
Tensor result_rows(const Matmul& operation, std::int64_t begin, std::int64_t count) {
    return operation.transpose_a == Transpose::kYes ? operation.a.column_range(begin, count)
                                                    : operation.a.row_range(begin, count);
}

}  // namespace

CublasLtMatmul::CublasLtMatmul(const Launch& launch, int capability, MatmulChoice choice)
    : launch_(launch), capability_(capability), choice_(choice), stopwatch_(launch.stream) {
    require(launch.workspace.bytes >= 2 * kMatmulWorkspaceBytes, ErrorCode::kInternal, "a workspace of {} bytes",
            launch.workspace.bytes);
    cublasLtHandle_t handle = nullptr;
    check(cublasLtCreate(&handle), "starting cuBLASLt");
    handle_.reset(handle);
}

std::int64_t CublasLtMatmul::aux_bytes(Epilogue epilogue, DataType type, std::int64_t rows, std::int64_t columns) {
    return rows * aux_row_bytes(epilogue, type, columns);
}

void CublasLtMatmul::run(const Tensor& y, const Matmul& operation) {
    if (y.elements() > 0) {
        execute(plan_for(y, operation), y, operation);
    } else if (!operation.a_sums.empty()) {
        sum_a(operation);
    }
}

CublasLtMatmul::Key CublasLtMatmul::key_of(const Tensor& y, const Matmul& operation, Lengths lengths) {
    const std::int64_t inner = inner_of(operation);
    const bool exact = lengths == Lengths::kExact;
    return {exact ? 1 : 0,
            exact ? y.rows : bucket_of(y.rows),
            y.columns,
            exact ? inner : bucket_of(inner),
            static_cast<std::int64_t>(y.type),
            static_cast<std::int64_t>(operation.a.type),
            static_cast<std::int64_t>(operation.transpose_a),
            static_cast<std::int64_t>(operation.transpose_b),
            static_cast<std::int64_t>(operation.write),
            static_cast<std::int64_t>(operation.epilogue),
            operation.aux.empty() ? 0 : alignment_of(operation.aux),
            std::int64_t{alignment_of(operation.a)} << 32 | alignment_of(operation.b),
            operation.bias.empty() ? 0 : alignment_of(operation.bias),
            operation.a_sums.empty() ? 0 : alignment_of(operation.a_sums),
            alignment_of(y)};
}

const CublasLtMatmul::Plan& CublasLtMatmul::plan_for(const Tensor& y, const Matmul& operation) {
    if (choice_ == MatmulChoice::kTimed) {
        const Plan& plan = remembered(key_of(y, operation, Lengths::kBucketed), y, operation);
        if (fits(plan, y, operation)) return plan;
    }
    return remembered(key_of(y, operation, Lengths::kExact), y, operation);
}

const CublasLtMatmul::Plan& CublasLtMatmul::remembered(const Key& key, const Tensor& y, const Matmul& operation) {
    const auto found = plans_.find(key);
    if (found != plans_.end()) return found->second;
    const Plan chosen = choose(y, operation);
    return plans_.emplace(key, chosen).first->second;
}

CublasLtMatmul::Plan CublasLtMatmul::choose(const Tensor& y, const Matmul& operation) {
    const std::vector<Plan> plans = candidates(y, operation);
    if (choice_ == MatmulChoice::kHeuristic || plans.size() == 1 || is_captured(launch_.stream)) return plans.front();
    if (operation.write == Write::kOverwrite) return fastest(plans, y, operation);
    // Trials must not accumulate into the results.
    const TrialMemory memory(y.rows * leading_dimension(y) * size_of(y.type));
    const TrialMemory sums(operation.a_sums.bytes() + 1);
    if (memory.data() == nullptr || sums.data() == nullptr) return plans.front();
    Tensor trial = y;
    trial.data = memory.data();
    Matmul trial_operation = operation;
    if (!operation.a_sums.empty()) trial_operation.a_sums.data = sums.data();
    return fastest(plans, trial, trial_operation);
}

CublasLtMatmul::Plan CublasLtMatmul::fastest(const std::vector<Plan>& plans, const Tensor& y, const Matmul& operation) {
    Plan best = plans.front();
    float best_milliseconds = std::numeric_limits<float>::infinity();
    for (const Plan& plan : plans) {
        const float milliseconds = stopwatch_.milliseconds([&] { execute(plan, y, operation); });
        if (milliseconds >= best_milliseconds) continue;
        best = plan;
        best_milliseconds = milliseconds;
    }
    return best;
}

// Never empty. The first is what is taken where nothing may be timed.
std::vector<CublasLtMatmul::Plan> CublasLtMatmul::candidates(const Tensor& y, const Matmul& operation) {
    std::vector<Plan> plans;
    if (inner_of(operation) > 0 && may_fuse(y, operation)) {
        for (const auto& algorithm : algorithms(Problem(y, operation, second_half()))) {
            plans.push_back({.path = Path::kFused, .algorithm = algorithm});
        }
    }
    if (operation.epilogue != Epilogue::kNone || !operation.a_sums.empty()) {
        plans.push_back({.path = Path::kSeparate});
    } else if (plans.empty()) {
        plans.push_back({.path = Path::kPlain});
    }
    return plans;
}

bool CublasLtMatmul::may_fuse(const Tensor& y, const Matmul& operation) {
    if (!has_activation(operation.epilogue)) return true;
    if (capability_ < kFusesActivationsFrom || y.type != DataType::kBf16 || y.columns % kFusedColumnMultiple != 0) {
        return false;
    }
    const bool relu = operation.epilogue == Epilogue::kBiasRelu || operation.epilogue == Epilogue::kReluGrad;
    return operation.aux.empty() || auxes_agree(relu ? Epilogue::kBiasRelu : Epilogue::kBiasGelu);
}

// Forward and backward pass choose by time whether they are fused, so that one may read what the other path kept. Of
// that the library's documentation gives the size and no more: it is compared, once.
bool CublasLtMatmul::auxes_agree(Epilogue forward) {
    const auto found = auxes_agree_.find(forward);
    if (found != auxes_agree_.end()) return found->second;
    if (is_captured(launch_.stream)) return false;
    return auxes_agree_[forward] = compare_auxes(forward);
}

// By products of small integers and a bias, exact and never 0.
bool CublasLtMatmul::compare_auxes(Epilogue forward) {
    constexpr std::int64_t kSize = kFusedColumnMultiple;
    constexpr std::size_t kElements = kSize * kSize;
    std::vector<Bfloat16> values(kElements + kSize);
    for (std::size_t i = 0; i < kElements; ++i) values[i] = Bfloat16(static_cast<float>(i * 7 % 11) - 5.0F);
    std::fill(values.begin() + kElements, values.end(), Bfloat16(0.5F));
    const auto aux_bytes = static_cast<std::size_t>(kSize * aux_row_bytes(forward, DataType::kBf16, kSize));
    const TrialMemory memory(std::ssize(values) * 2);
    const TrialMemory result(kElements * 2);
    const TrialMemory aux(static_cast<std::int64_t>(aux_bytes));
    if (memory.data() == nullptr || result.data() == nullptr || aux.data() == nullptr) return false;
    const Tensor factor = make_tensor(memory.data(), DataType::kBf16, kSize, kSize);
    const Tensor y = make_tensor(result.data(), DataType::kBf16, kSize, kSize);
    const Matmul operation{.a = factor,
                           .b = factor,
                           .epilogue = forward,
                           .bias = make_vector(factor.as<Bfloat16>() + kElements, DataType::kBf16, kSize),
                           .aux = make_vector(aux.data(), DataType::kU8, static_cast<std::int64_t>(aux_bytes))};
    const auto algorithm = algorithms(Problem(y, operation, second_half()));
    if (algorithm.empty()) return false;
    std::vector<std::byte> kept[2];
    for (const Plan& plan : {Plan{Path::kFused, algorithm.front()}, Plan{Path::kSeparate, {}}}) {
        auto& bytes = kept[plan.path == Path::kFused ? 0 : 1];
        bytes.resize(aux_bytes);
        check(cudaMemcpyAsync(memory.data(), values.data(), values.size() * 2, cudaMemcpyHostToDevice, launch_.stream),
              "comparing epilogues");
        execute(plan, y, operation);
        check(cudaMemcpyAsync(bytes.data(), aux.data(), aux_bytes, cudaMemcpyDeviceToHost, launch_.stream),
              "comparing epilogues");
        check(cudaStreamSynchronize(launch_.stream), "comparing epilogues");
    }
    return kept[0] == kept[1];
}

std::vector<cublasLtMatmulAlgo_t> CublasLtMatmul::algorithms(const Problem& problem) const {
    cublasLtMatmulPreferenceOpaque_t preference = {};
    check(cublasLtMatmulPreferenceInit(&preference), "asking for algorithms");
    const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
        check(cublasLtMatmulPreferenceSetAttribute(&preference, attribute, &value, sizeof(value)),
              "asking for algorithms");
    };
    set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<std::uint64_t>(kMatmulWorkspaceBytes));
    // Partial sums stay f32, and are added in a step of their own.
    set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment_of(problem.operation.b));
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment_of(problem.operation.a));
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment_of(problem.y));
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment_of(problem.y));
    std::array<cublasLtMatmulHeuristicResult_t, kCandidates> results = {};
    int found = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
        handle_.get(), const_cast<cublasLtMatmulDescOpaque_t*>(&problem.description),
        const_cast<cublasLtMatrixLayoutOpaque_t*>(&problem.a), const_cast<cublasLtMatrixLayoutOpaque_t*>(&problem.b),
        const_cast<cublasLtMatrixLayoutOpaque_t*>(&problem.d), const_cast<cublasLtMatrixLayoutOpaque_t*>(&problem.d),
        &preference, kCandidates, results.data(), &found);
    std::vector<cublasLtMatmulAlgo_t> algorithms;
    // Either of these says that the library does not take the product.
    if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE) return algorithms;
    check(status, "asking for algorithms");
    for (int i = 0; i < found; ++i) {
        const auto& result = results[static_cast<std::size_t>(i)];
        if (result.state == CUBLAS_STATUS_SUCCESS) algorithms.push_back(result.algo);
    }
    return algorithms;
}

bool CublasLtMatmul::fits(const Plan& plan, const Tensor& y, const Matmul& operation) const {
    if (plan.path != Path::kFused) return true;
    Problem problem(y, operation, second_half());
    cublasLtMatmulHeuristicResult_t result = {};
    const cublasStatus_t status = cublasLtMatmulAlgoCheck(handle_.get(), &problem.description, &problem.a, &problem.b,
                                                          &problem.d, &problem.d, &plan.algorithm, &result);
    return status == CUBLAS_STATUS_SUCCESS && result.workspaceSize <= kMatmulWorkspaceBytes;
}

void CublasLtMatmul::execute(const Plan& plan, const Tensor& y, const Matmul& operation) {
    switch (plan.path) {
        case Path::kFused:
            return execute_fused(plan, y, operation);
        case Path::kSeparate:
            return execute_separately(y, operation);
        case Path::kPlain:
            return check(plain_matmul(launch_, y, operation), "plain_matmul");
    }
}

void CublasLtMatmul::execute_fused(const Plan& plan, const Tensor& y, const Matmul& operation) {
    Problem problem(y, operation, second_half());
    const float alpha = 1.0F;
    const float beta = operation.write == Write::kAccumulate ? 1.0F : 0.0F;
    check(cublasLtMatmul(handle_.get(), &problem.description, &alpha, operation.b.data, &problem.a, operation.a.data,
                         &problem.b, &beta, y.data, &problem.d, y.data, &problem.d, &plan.algorithm,
                         launch_.workspace.data, static_cast<std::size_t>(kMatmulWorkspaceBytes), launch_.stream),
          "a product");
    if (operation.a_sums.empty() || operation.write == Write::kOverwrite) return;
    const Tensor sums = make_vector(second_half(), DataType::kF32, y.rows);
    check(add(launch_, operation.a_sums, operation.a_sums, sums), "a product's sums");
}

void* CublasLtMatmul::second_half() const {
    return static_cast<std::byte*>(launch_.workspace.data) + kMatmulWorkspaceBytes;
}

void CublasLtMatmul::sum_a(const Matmul& operation) {
    check(column_sum(launch_, operation.a_sums, operation.a, operation.write), "a product's sums");
}

// In pieces of rows, as many as the workspace's second half has room for.
void CublasLtMatmul::execute_separately(const Tensor& y, const Matmul& operation) {
    if (!operation.a_sums.empty()) {
        Matmul product = operation;
        product.a_sums = {};
        run(y, product);
        return sum_a(operation);
    }
    const std::int64_t row_bytes = y.columns * size_of(DataType::kF32);
    const std::int64_t most_rows = kMatmulWorkspaceBytes / row_bytes;
    require(most_rows > 0, ErrorCode::kDevice, "a row of {} columns is more than the workspace holds", y.columns);
    void* room = second_half();
    const std::int64_t aux_stride = aux_row_bytes(operation.epilogue, y.type, y.columns);
    for (std::int64_t begin = 0; begin < y.rows; begin += most_rows) {
        const std::int64_t rows = std::min(most_rows, y.rows - begin);
        const Tensor sums = make_tensor(room, DataType::kF32, rows, y.columns);
        run(sums, {.a = result_rows(operation, begin, rows),
                   .b = operation.b,
                   .transpose_a = operation.transpose_a,
                   .transpose_b = operation.transpose_b});
        std::byte* aux = operation.aux.as<std::byte>();
        check(apply_epilogue(launch_, {.y = y.row_range(begin, rows),
                                       .sums = sums,
                                       .bias = operation.bias,
                                       .aux = aux == nullptr ? nullptr : aux + begin * aux_stride,
                                       .aux_stride = aux_stride,
                                       .epilogue = operation.epilogue}),
              "apply_epilogue");
    }
}

}  // namespace duologue::cuda
