// cuBLASLt's functions that need a card. Linked before the library, they are called; descriptions are the library's
// own, so that what it would refuse to describe is refused.
#include <cublasLt.h>
#include <cuda_bf16.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "emulated_gpu/memory.h"
#include "emulated_gpu/streams.h"

namespace {

constexpr std::size_t kWorkspaceBytes = std::size_t{1} << 20;  // of the first algorithm; the second takes none
constexpr std::uint64_t kAlgorithms = 2;
constexpr std::uint32_t kLeastAlignment = 16;

struct Matrix {
    std::uint32_t type = 0;
    std::uint64_t rows = 0;
    std::uint64_t columns = 0;
    std::int64_t stride = 0;  // from column to column

    explicit Matrix(cublasLtMatrixLayout_t layout) {
        get(layout, CUBLASLT_MATRIX_LAYOUT_TYPE, type);
        get(layout, CUBLASLT_MATRIX_LAYOUT_ROWS, rows);
        get(layout, CUBLASLT_MATRIX_LAYOUT_COLS, columns);
        get(layout, CUBLASLT_MATRIX_LAYOUT_LD, stride);
    }
    template <class Value>
    static void get(cublasLtMatrixLayout_t layout, cublasLtMatrixLayoutAttribute_t attribute, Value& value) {
        std::size_t written = 0;
        cublasLtMatrixLayoutGetAttribute(layout, attribute, &value, sizeof value, &written);
    }
    [[nodiscard]] std::size_t element_bytes() const { return type == CUDA_R_16BF ? 2 : 4; }
    [[nodiscard]] std::size_t bytes() const {
        if (rows == 0 || columns == 0) return 0;
        return (static_cast<std::size_t>(stride) * (columns - 1) + rows) * element_bytes();
    }
};

float loaded(const void* data, std::uint32_t type, std::size_t index) {
    if (type == CUDA_R_32F) return static_cast<const float*>(data)[index];
    return __bfloat162float(static_cast<const __nv_bfloat16*>(data)[index]);
}

void store(void* data, std::uint32_t type, std::size_t index, float value) {
    if (type == CUDA_R_32F) {
        static_cast<float*>(data)[index] = value;
    } else {
        static_cast<__nv_bfloat16*>(data)[index] = __float2bfloat16_rn(value);
    }
}

// A product with all that its descriptions say.
struct Product {
    Matrix a;
    Matrix b;
    Matrix c;
    Matrix d;
    std::int32_t compute = 0;
    std::int32_t transpose_a = 0;
    std::int32_t transpose_b = 0;
    std::uint32_t epilogue = 0;
    void* bias = nullptr;
    std::int32_t bias_type = -1;
    void* aux = nullptr;
    std::int64_t aux_stride = 0;

    Product(cublasLtMatmulDesc_t description, cublasLtMatrixLayout_t a_layout, cublasLtMatrixLayout_t b_layout,
            cublasLtMatrixLayout_t c_layout, cublasLtMatrixLayout_t d_layout)
        : a(a_layout), b(b_layout), c(c_layout), d(d_layout) {
        const auto get = [&](cublasLtMatmulDescAttributes_t attribute, auto& value) {
            std::size_t written = 0;
            cublasLtMatmulDescGetAttribute(description, attribute, &value, sizeof value, &written);
        };
        get(CUBLASLT_MATMUL_DESC_COMPUTE_TYPE, compute);
        get(CUBLASLT_MATMUL_DESC_TRANSA, transpose_a);
        get(CUBLASLT_MATMUL_DESC_TRANSB, transpose_b);
        get(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
        get(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
        get(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, bias_type);
        get(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, aux);
        get(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, aux_stride);
        if (bias_type == -1) bias_type = static_cast<std::int32_t>(d.type);
    }

    // The bits that cublasLtEpilogue_t is made of.
    [[nodiscard]] bool is_relu() const { return (epilogue & 2U) != 0; }
    [[nodiscard]] bool uses_bias() const { return (epilogue & 4U) != 0; }
    [[nodiscard]] bool is_relu_gradient() const { return (epilogue & 8U) != 0; }
    [[nodiscard]] bool is_gelu() const { return (epilogue & 32U) != 0; }
    [[nodiscard]] bool is_gelu_gradient() const { return (epilogue & 64U) != 0; }
    [[nodiscard]] bool uses_aux() const { return (epilogue & 128U) != 0; }
    [[nodiscard]] bool sums_b() const { return epilogue == CUBLASLT_EPILOGUE_BGRADB; }

    [[nodiscard]] std::size_t bias_bytes() const {
        return (sums_b() ? d.columns : d.rows) * (bias_type == CUDA_R_16BF ? 2 : 4);
    }
    [[nodiscard]] std::size_t aux_bytes() const {
        const auto elements = static_cast<std::size_t>(aux_stride) * d.columns;
        return is_relu() || is_relu_gradient() ? elements / 8 : elements * d.element_bytes();
    }
    [[nodiscard]] std::uint64_t inner() const { return transpose_a == CUBLAS_OP_N ? a.columns : a.rows; }

    [[nodiscard]] cublasStatus_t status() const {
        const std::uint64_t rows = transpose_a == CUBLAS_OP_N ? a.rows : a.columns;
        const std::uint64_t columns = transpose_b == CUBLAS_OP_N ? b.columns : b.rows;
        const std::uint64_t other_inner = transpose_b == CUBLAS_OP_N ? b.rows : b.columns;
        if (rows != d.rows || columns != d.columns || inner() != other_inner) return CUBLAS_STATUS_INVALID_VALUE;
        for (const Matrix* matrix : {&a, &b, &c, &d}) {
            if (matrix->stride < static_cast<std::int64_t>(matrix->rows)) return CUBLAS_STATUS_INVALID_VALUE;
            if (static_cast<std::size_t>(matrix->stride) * matrix->element_bytes() % kLeastAlignment != 0) {
                return CUBLAS_STATUS_NOT_SUPPORTED;
            }
        }
        if (uses_aux()) {
            const std::int64_t multiple = is_relu() || is_relu_gradient() ? 128 : 8;
            const bool fits =
                aux != nullptr && aux_stride % multiple == 0 && aux_stride >= static_cast<std::int64_t>(rows);
            if (!fits) return CUBLAS_STATUS_INVALID_VALUE;
        }
        if ((uses_bias() || sums_b()) && bias == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
        const bool known_types = a.type == b.type && c.type == d.type && (d.type == a.type || d.type == CUDA_R_32F);
        const bool known_bias = !(uses_bias() || sums_b()) || bias_type == static_cast<std::int32_t>(d.type);
        const bool known_epilogue = sums_b() || (epilogue < 256 && (epilogue & 16U) == 0);
        return compute == CUBLAS_COMPUTE_32F && known_types && known_bias && known_epilogue && inner() > 0
                   ? CUBLAS_STATUS_SUCCESS
                   : CUBLAS_STATUS_NOT_SUPPORTED;
    }
};

float gelu(float z) { return 0.5F * z * (1.0F + std::tanh(0.7978845608F * (z + 0.044715F * z * z * z))); }
float gelu_slope(float z) {
    const float t = std::tanh(0.7978845608F * (z + 0.044715F * z * z * z));
    return 0.5F * (1.0F + t) + 0.5F * z * (1.0F - t * t) * 0.7978845608F * (1.0F + 3.0F * 0.044715F * z * z);
}

[[gnu::target_clones("avx2", "default")]] void add_scaled(float* to, const float* from, float factor,
                                                          std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) to[i] += factor * from[i];
}

// One column of the result: sums, then the epilogue along the rows.
void finish_column(const Product& at, std::vector<float>& sums, std::size_t column, void* d) {
    const std::size_t first = column * static_cast<std::size_t>(at.aux_stride);
    auto* bits = static_cast<std::uint8_t*>(at.aux);
    for (std::size_t row = 0; row < at.d.rows; ++row) {
        float z = sums[row];
        if (at.uses_bias()) z += loaded(at.bias, static_cast<std::uint32_t>(at.bias_type), row);
        if (at.is_relu_gradient()) {
            z = (bits[(first + row) / 8] >> (row % 8) & 1) != 0 ? z : 0.0F;
        } else if (at.is_gelu_gradient()) {
            z *= gelu_slope(loaded(at.aux, at.d.type, first + row));
        } else if (at.is_relu()) {
            if (at.uses_aux()) {
                const auto bit = static_cast<std::uint8_t>(1U << row % 8);
                std::uint8_t& byte = bits[(first + row) / 8];
                byte = static_cast<std::uint8_t>(z > 0.0F ? byte | bit : byte & ~bit);
            }
            z = z < 0.0F ? 0.0F : z;
        } else if (at.is_gelu()) {
            if (at.uses_aux()) store(at.aux, at.d.type, first + row, z);
            z = gelu(z);
        }
        store(d, at.d.type, column * static_cast<std::size_t>(at.d.stride) + row, z);
    }
}

void multiply(const Product& at, const void* a, const void* b, float beta, const void* c, void* d) {
    const std::size_t rows = at.d.rows;
    const std::size_t inner = at.inner();
    std::vector<float> a_values(inner * rows);  // [inner][rows]
    for (std::size_t k = 0; k < inner; ++k) {
        for (std::size_t row = 0; row < rows; ++row) {
            const bool plain = at.transpose_a == CUBLAS_OP_N;
            const std::size_t column = plain ? k : row;
            a_values[k * rows + row] =
                loaded(a, at.a.type, column * static_cast<std::size_t>(at.a.stride) + (plain ? row : k));
        }
    }
    std::vector<float> sums(rows);
    for (std::size_t column = 0; column < at.d.columns; ++column) {
        std::fill(sums.begin(), sums.end(), 0.0F);
        float sum_of_b = 0.0F;
        for (std::size_t k = 0; k < inner; ++k) {
            const bool plain = at.transpose_b == CUBLAS_OP_N;
            const std::size_t index =
                (plain ? column : k) * static_cast<std::size_t>(at.b.stride) + (plain ? k : column);
            const float factor = loaded(b, at.b.type, index);
            add_scaled(sums.data(), a_values.data() + k * rows, factor, rows);
            sum_of_b += factor;
        }
        if (at.sums_b()) store(at.bias, at.d.type, column, sum_of_b);
        for (std::size_t row = 0; row < rows && beta != 0.0F; ++row) {
            sums[row] += beta * loaded(c, at.c.type, column * static_cast<std::size_t>(at.c.stride) + row);
        }
        finish_column(at, sums, column, d);
    }
}

cublasLtMatmulHeuristicResult_t result_of(std::uint64_t algorithm) {
    cublasLtMatmulHeuristicResult_t result = {};
    result.algo.data[0] = algorithm + 1;
    result.workspaceSize = algorithm == 0 ? kWorkspaceBytes : 0;
    result.state = CUBLAS_STATUS_SUCCESS;
    return result;
}

}  // namespace

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
    *handle = reinterpret_cast<cublasLtHandle_t>(new int(0));
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
    delete reinterpret_cast<int*>(handle);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t description,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int most,
                                              cublasLtMatmulHeuristicResult_t* results, int* found) {
    *found = 0;
    const cublasStatus_t status = Product(description, a, b, c, d).status();
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    for (const auto attribute :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
        std::uint32_t alignment = 0;
        std::size_t written = 0;
        cublasLtMatmulPreferenceGetAttribute(preference, attribute, &alignment, sizeof alignment, &written);
        if (alignment < kLeastAlignment) return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    for (std::uint64_t i = 0; i < kAlgorithms && *found < most; ++i) results[(*found)++] = result_of(i);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t, cublasLtMatmulDesc_t description, cublasLtMatrixLayout_t a,
                                       cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t* algorithm, cublasLtMatmulHeuristicResult_t* result) {
    const cublasStatus_t status = Product(description, a, b, c, d).status();
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    *result = result_of(algorithm->data[0] - 1);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t description, const void* alpha, const void* a,
                              cublasLtMatrixLayout_t a_layout, const void* b, cublasLtMatrixLayout_t b_layout,
                              const void* beta, const void* c, cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* algorithm, void* workspace,
                              size_t workspace_bytes, cudaStream_t stream) {
    const Product product(description, a_layout, b_layout, c_layout, d_layout);
    const cublasStatus_t status = product.status();
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    const std::uint64_t number = algorithm->data[0] - 1;
    if (number >= kAlgorithms || *static_cast<const float*>(alpha) != 1.0F) return CUBLAS_STATUS_INVALID_VALUE;
    const std::size_t needed = result_of(number).workspaceSize;
    if (workspace_bytes < needed) return CUBLAS_STATUS_INVALID_VALUE;
    for (const void* address : {a, b, c, static_cast<const void*>(d)}) {
        if (reinterpret_cast<std::uintptr_t>(address) % kLeastAlignment != 0) return CUBLAS_STATUS_INVALID_VALUE;
    }
    const bool lies_on_the_card =
        emulated_gpu::is_device_memory(a, product.a.bytes()) && emulated_gpu::is_device_memory(b, product.b.bytes()) &&
        emulated_gpu::is_device_memory(d, product.d.bytes()) && emulated_gpu::is_device_memory(workspace, needed) &&
        (product.bias == nullptr || emulated_gpu::is_device_memory(product.bias, product.bias_bytes())) &&
        (product.aux == nullptr || emulated_gpu::is_device_memory(product.aux, product.aux_bytes()));
    if (!lies_on_the_card) return CUBLAS_STATUS_EXECUTION_FAILED;
    emulated_gpu::queue_work(stream, [=, share = *static_cast<const float*>(beta)] {
        std::memset(workspace, 0xff, needed);
        multiply(product, a, b, share, c, d);
    });
    return CUBLAS_STATUS_SUCCESS;
}

}  // extern "C"
