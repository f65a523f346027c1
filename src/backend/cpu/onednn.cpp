// The only place that knows oneDNN: primitives kept by shape, executed on the caller's memory.
#include "backend/cpu/onednn.h"

#include <omp.h>

#include <array>
#include <map>
#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>

#include "backend/cpu/gemm_epilogue.h"
#include "backend/cpu/parallel.h"
#include "duologue/core/error.h"

namespace duologue::cpu {

namespace {

using dnnl::memory;

constexpr std::int64_t kEpilogueRows = 32;
constexpr std::size_t kMostPrimitives = 256;  // batches differ in their numbers of rows: forget before memory grows

memory::data_type data_type_of(DataType type) {
    return type == DataType::kBf16 ? memory::data_type::bf16 : memory::data_type::f32;
}

/// op(matrix) as oneDNN sees it: transposition is only an exchange of strides.
memory::desc describe(const Tensor& matrix, Transpose transpose) {
    if (transpose == Transpose::kYes) {
        return {{matrix.columns, matrix.rows}, data_type_of(matrix.type), {1, matrix.row_stride}};
    }
    return {{matrix.rows, matrix.columns}, data_type_of(matrix.type), {matrix.row_stride, 1}};
}

using Shape = std::array<std::int64_t, 10>;

Shape shape_of(const Tensor& y, const Matmul& operation) {
    const auto& [a, b, transpose_a, transpose_b, write, epilogue, bias, aux, a_sums] = operation;
    const std::int64_t choices = static_cast<std::int64_t>(transpose_a) | static_cast<std::int64_t>(transpose_b) << 1 |
                                 static_cast<std::int64_t>(write) << 2 | std::int64_t{bias.empty()} << 3;
    return {a.rows,
            a.columns,
            a.row_stride,
            b.rows,
            b.columns,
            b.row_stride,
            y.row_stride,
            choices,
            static_cast<std::int64_t>(a.type),
            static_cast<std::int64_t>(y.type)};
}

/// A primitive and the arguments whose addresses change from call to call.
struct Product {
    dnnl::matmul primitive;
    std::unordered_map<int, memory> arguments;
};

Product make_product(const dnnl::engine& engine, const Tensor& y, const Matmul& operation) {
    const memory::desc a = describe(operation.a, operation.transpose_a);
    const memory::desc b = describe(operation.b, operation.transpose_b);
    const memory::desc result = describe(y, Transpose::kNo);
    const memory::desc bias = operation.bias.empty() ? memory::desc{} : describe(operation.bias, Transpose::kNo);
    dnnl::primitive_attr attributes;
    if (operation.write == Write::kAccumulate) {
        dnnl::post_ops add;
        add.append_sum(1.0F);
        attributes.set_post_ops(add);
    }
    const auto description =
        operation.bias.empty() ? dnnl::matmul::desc(a, b, result) : dnnl::matmul::desc(a, b, bias, result);
    Product product{dnnl::matmul(dnnl::matmul::primitive_desc(description, attributes, engine)), {}};
    product.arguments.emplace(DNNL_ARG_SRC, memory(a, engine, nullptr));
    product.arguments.emplace(DNNL_ARG_WEIGHTS, memory(b, engine, nullptr));
    product.arguments.emplace(DNNL_ARG_DST, memory(result, engine, nullptr));
    if (!operation.bias.empty()) product.arguments.emplace(DNNL_ARG_BIAS, memory(bias, engine, nullptr));
    return product;
}

void finish(int threads, const Tensor& y, const Matmul& operation, const float* sums) {
    const StoreTile store_tile = choose_store_tile(y, operation);
    parallel_ranges(threads, y.rows, kEpilogueRows, [&](std::int64_t begin, std::int64_t end, int) {
        store_tile(y, operation,
                   {.sums = sums + begin * y.columns,
                    .stride = y.columns,
                    .row = begin,
                    .column = 0,
                    .rows = end - begin,
                    .columns = y.columns});
    });
}

}  // namespace

class OneDnnMatmul::Primitives {
   public:
    void execute(const Tensor& y, const Matmul& operation) {
        Product& product = find(y, operation);
        product.arguments.at(DNNL_ARG_SRC).set_data_handle(operation.a.data);
        product.arguments.at(DNNL_ARG_WEIGHTS).set_data_handle(operation.b.data);
        product.arguments.at(DNNL_ARG_DST).set_data_handle(y.data);
        if (!operation.bias.empty()) product.arguments.at(DNNL_ARG_BIAS).set_data_handle(operation.bias.data);
        product.primitive.execute(stream_, product.arguments);
        stream_.wait();
    }

   private:
    Product& find(const Tensor& y, const Matmul& operation) {
        const Shape shape = shape_of(y, operation);
        const auto known = products_.find(shape);
        if (known != products_.end()) return known->second;
        if (products_.size() >= kMostPrimitives) products_.clear();
        return products_.emplace(shape, make_product(engine_, y, operation)).first->second;
    }

    dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
    dnnl::stream stream_{engine_};
    std::map<Shape, Product> products_;
};

OneDnnMatmul::OneDnnMatmul(int threads) : primitives_(std::make_unique<Primitives>()) {
    omp_set_num_threads(threads);
    // The library would keep the code of a thousand more primitives, about 0.4 MB each, which ours are never found
    // among.
    dnnl::set_primitive_cache_capacity(0);
}

OneDnnMatmul::~OneDnnMatmul() = default;

namespace {
bool has_isa(dnnl::cpu_isa wanted) {
    const auto available = static_cast<unsigned>(dnnl::get_effective_cpu_isa());
    return (available & static_cast<unsigned>(wanted)) == static_cast<unsigned>(wanted);
}
}  // namespace

bool OneDnnMatmul::supports(DataType type) {
    return type == DataType::kF32 || has_isa(dnnl::cpu_isa::avx512_core_bf16);
}

bool OneDnnMatmul::has_tiles() { return has_isa(dnnl::cpu_isa::avx512_core_amx); }

// It adds the bias and accumulates, nothing else.
bool OneDnnMatmul::takes_one_pass(const Matmul& operation) {
    return operation.epilogue == Epilogue::kNone || operation.epilogue == Epilogue::kBias;
}

std::string OneDnnMatmul::version() { return "oneDNN " + running_version(); }

std::string OneDnnMatmul::running_version() {
    const dnnl_version_t* version = dnnl::version();
    return fmt::format("{}.{}.{}", version->major, version->minor, version->patch);
}

std::string OneDnnMatmul::compiled_version() {
    return fmt::format("{}.{}.{}", DNNL_VERSION_MAJOR, DNNL_VERSION_MINOR, DNNL_VERSION_PATCH);
}

void OneDnnMatmul::multiply(Workspace& workspace, const Tensor& y, const Matmul& operation) {
    try {
        if (takes_one_pass(operation)) return primitives_->execute(y, operation);
        // The epilogue reads whole vectors, so the sums have room for one after their end.
        workspace.reserve_shared(Scratch::bytes_for<float>(y.elements() + kScratchAlignment));
        auto* sums = workspace.shared().take<float>(y.elements());
        primitives_->execute(make_tensor(sums, DataType::kF32, y.rows, y.columns),
                             {.a = operation.a,
                              .b = operation.b,
                              .transpose_a = operation.transpose_a,
                              .transpose_b = operation.transpose_b});
        finish(workspace.threads(), y, operation, sums);
    } catch (const dnnl::error& error) {
        fail(ErrorCode::kDevice, "{} cannot multiply {} matrices into {} x {}: {}", version(),
             name_of(operation.a.type), y.rows, y.columns, error.message);
    }
}

}  // namespace duologue::cpu
