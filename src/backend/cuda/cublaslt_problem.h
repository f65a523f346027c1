// A product as cuBLASLt wants it described. Private to cublaslt_matmul.cpp.
#pragma once

#include <cublasLt.h>

#include <algorithm>
#include <cstdint>

#include "backend/cuda/check.h"
#include "backend/cuda/cublaslt_matmul.h"
#include "duologue/core/rounding.h"

namespace duologue::cuda {

inline cudaDataType_t cuda_type(DataType type) { return type == DataType::kBf16 ? CUDA_R_16BF : CUDA_R_32F; }

/// Elements from one row to the next; of a single row at least its length, whatever its stride says.
inline std::int64_t leading_dimension(const Tensor& tensor) { return std::max(tensor.row_stride, tensor.columns); }

/// The largest power of two up to 256 that divides the address and, where there are several rows, their distance.
inline std::uint32_t alignment_of(const Tensor& tensor) {
    auto bits = reinterpret_cast<std::uintptr_t>(tensor.data) | std::uintptr_t{256};
    if (tensor.rows > 1) bits |= static_cast<std::uintptr_t>(tensor.row_stride * size_of(tensor.type));
    return static_cast<std::uint32_t>(bits & (~bits + 1));
}

/// ReLU's aux has one bit per element and rows of whole 128-bit words; GELU's an element of the result's type and rows
/// of whole 8 elements. Both as cuBLASLt lays them out. In elements.
inline std::int64_t aux_leading_dimension(Epilogue epilogue, std::int64_t columns) {
    const bool relu = epilogue == Epilogue::kBiasRelu || epilogue == Epilogue::kReluGrad;
    const std::int64_t multiple = relu ? 128 : 8;
    return rounded_up(columns, multiple);
}

inline std::int64_t aux_row_bytes(Epilogue epilogue, DataType type, std::int64_t columns) {
    const bool relu = epilogue == Epilogue::kBiasRelu || epilogue == Epilogue::kReluGrad;
    const std::int64_t elements = aux_leading_dimension(epilogue, columns);
    return relu ? elements / 8 : elements * size_of(type);
}

inline cublasLtEpilogue_t library_epilogue(const Matmul& operation) {
    const bool keeps = !operation.aux.empty();
    switch (operation.epilogue) {
        case Epilogue::kNone:
            // The library's B is our a, its columns are our a's: see Problem.
            return operation.a_sums.empty() ? CUBLASLT_EPILOGUE_DEFAULT : CUBLASLT_EPILOGUE_BGRADB;
        case Epilogue::kBias:
            return CUBLASLT_EPILOGUE_BIAS;
        case Epilogue::kBiasRelu:
            return keeps ? CUBLASLT_EPILOGUE_RELU_AUX_BIAS : CUBLASLT_EPILOGUE_RELU_BIAS;
        case Epilogue::kBiasGelu:
            return keeps ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_BIAS;
        case Epilogue::kReluGrad:
            return CUBLASLT_EPILOGUE_DRELU;
        case Epilogue::kGeluGrad:
            return CUBLASLT_EPILOGUE_DGELU;
    }
    fail(ErrorCode::kInternal, "an unknown epilogue {}", static_cast<int>(operation.epilogue));
}

/// A row-major matrix is a column-major one transposed, so y = op(a) op(b) is asked for as y^T = op(b)^T op(a)^T: the
/// library's A is our b, its B our a, and the rows of its result are our columns, along which bias and aux run.
struct CublasLtMatmul::Problem {
    /// `sums_room`: where sums of a that are to be added to others go first, because the library only overwrites.
    Problem(const Tensor& result, const Matmul& matmul, void* sums_room) : y(result), operation(matmul) {
        check(cublasLtMatmulDescInit(&description, CUBLAS_COMPUTE_32F, CUDA_R_32F), "describing a product");
        if (operation.transpose_b == Transpose::kYes) set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
        if (operation.transpose_a == Transpose::kYes) set(CUBLASLT_MATMUL_DESC_TRANSB, CUBLAS_OP_T);
        lay_out(a, operation.b);
        lay_out(b, operation.a);
        lay_out(d, y);
        if (operation.epilogue != Epilogue::kNone) set_epilogue();
        if (!operation.a_sums.empty()) {
            set(CUBLASLT_MATMUL_DESC_EPILOGUE, library_epilogue(operation));
            void* sums = operation.write == Write::kAccumulate ? sums_room : operation.a_sums.data;
            set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, sums);
            set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, CUDA_R_32F);
        }
    }

    template <class Value>
    void set(cublasLtMatmulDescAttributes_t attribute, const Value& value) {
        check(cublasLtMatmulDescSetAttribute(&description, attribute, &value, sizeof(value)), "describing a product");
    }

    static void lay_out(cublasLtMatrixLayoutOpaque_t& layout, const Tensor& tensor) {
        check(cublasLtMatrixLayoutInit(&layout, cuda_type(tensor.type), static_cast<std::uint64_t>(tensor.columns),
                                       static_cast<std::uint64_t>(tensor.rows), leading_dimension(tensor)),
              "describing a matrix");
    }

    void set_epilogue() {
        set(CUBLASLT_MATMUL_DESC_EPILOGUE, library_epilogue(operation));
        if (!operation.bias.empty()) {
            set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, operation.bias.data);
            set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, cuda_type(operation.bias.type));
        }
        if (!operation.aux.empty()) {
            set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, operation.aux.data);
            set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, aux_leading_dimension(operation.epilogue, y.columns));
        }
    }

    Tensor y;
    Matmul operation;
    cublasLtMatmulDescOpaque_t description = {};
    cublasLtMatrixLayoutOpaque_t a = {};
    cublasLtMatrixLayoutOpaque_t b = {};
    cublasLtMatrixLayoutOpaque_t d = {};
};

}  // namespace duologue::cuda
