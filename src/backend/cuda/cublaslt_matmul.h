// CublasLtMatmul: matrix products by cuBLASLt, with their epilogues fused where the library can.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <type_traits>
#include <vector>

#include "backend/cuda/kernels.h"
#include "backend/cuda/trial.h"
#include "duologue/backend/backend.h"

namespace duologue::cuda {

/// What cuBLASLt may use at a time: what it recommends for Hopper.
inline constexpr std::int64_t kMatmulWorkspaceBytes = std::int64_t{32} << 20;

/// How the algorithm of a matrix product is chosen. kTimed: the fastest of the library's candidates, timed once per
/// shape. kHeuristic: the library's first, a function of the shape alone, so that another process gets the same bits.
enum class MatmulChoice : std::uint8_t { kTimed, kHeuristic };

class CublasLtMatmul {
   public:
    /// `launch.workspace` holds at least twice kMatmulWorkspaceBytes: the library's part, then the f32 sums of products
    /// whose epilogue is not fused. `capability` is the card's, 90 for sm_90.
    CublasLtMatmul(const Launch& launch, int capability, MatmulChoice choice);

    /// Backend::matmul. A shape's first call tries and times the candidates, unless the stream is being captured.
    void run(const Tensor& y, const Matmul& operation);

    /// Bytes of aux for a result of this shape, whether the epilogue is fused or not.
    [[nodiscard]] static std::int64_t aux_bytes(Epilogue epilogue, DataType type, std::int64_t rows,
                                                std::int64_t columns);

   private:
    /// kFused: one call of cuBLASLt. kSeparate: a product into f32 sums, then our epilogue; or a product, then the sums
    /// of a. kPlain: our own kernel, for products without epilogue that cuBLASLt does not take.
    enum class Path : std::uint8_t { kFused, kSeparate, kPlain };
    struct Plan {
        Path path = Path::kPlain;
        cublasLtMatmulAlgo_t algorithm = {};
    };
    /// What a plan is chosen by: everything but addresses; rows and inner length exact or up to their bucket.
    using Key = std::array<std::int64_t, 15>;
    enum class Lengths : std::uint8_t { kBucketed, kExact };
    struct Problem;

    [[nodiscard]] static Key key_of(const Tensor& y, const Matmul& operation, Lengths lengths);
    [[nodiscard]] const Plan& plan_for(const Tensor& y, const Matmul& operation);
    [[nodiscard]] const Plan& remembered(const Key& key, const Tensor& y, const Matmul& operation);
    [[nodiscard]] Plan choose(const Tensor& y, const Matmul& operation);
    [[nodiscard]] Plan fastest(const std::vector<Plan>& plans, const Tensor& y, const Matmul& operation);
    [[nodiscard]] std::vector<Plan> candidates(const Tensor& y, const Matmul& operation);
    [[nodiscard]] std::vector<cublasLtMatmulAlgo_t> algorithms(const Problem& problem) const;
    [[nodiscard]] bool fits(const Plan& plan, const Tensor& y, const Matmul& operation) const;
    [[nodiscard]] bool may_fuse(const Tensor& y, const Matmul& operation);
    [[nodiscard]] bool auxes_agree(Epilogue forward);
    [[nodiscard]] bool compare_auxes(Epilogue forward);
    void execute(const Plan& plan, const Tensor& y, const Matmul& operation);
    void execute_fused(const Plan& plan, const Tensor& y, const Matmul& operation);
    void execute_separately(const Tensor& y, const Matmul& operation);
    void sum_a(const Matmul& operation);
    [[nodiscard]] void* second_half() const;

    struct HandleDeleter {
        void operator()(cublasLtHandle_t handle) const { cublasLtDestroy(handle); }
    };

    Launch launch_;
    int capability_;
    MatmulChoice choice_;
    std::unique_ptr<std::remove_pointer_t<cublasLtHandle_t>, HandleDeleter> handle_;
    Stopwatch stopwatch_;
    std::map<Key, Plan> plans_;
    std::map<Epilogue, bool> auxes_agree_;
};

}  // namespace duologue::cuda
