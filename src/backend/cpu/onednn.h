// Matrix products by oneDNN: bf16 where the processor multiplies it natively, f32 to compare with.
#pragma once

#include <memory>
#include <string>

#include "backend/cpu/workspace.h"
#include "duologue/backend/backend.h"

namespace duologue::cpu {

class OneDnnMatmul {
   public:
    /// oneDNN takes its number of threads from OpenMP's default, which is set here.
    explicit OneDnnMatmul(int threads);
    ~OneDnnMatmul();
    OneDnnMatmul(const OneDnnMatmul&) = delete;
    OneDnnMatmul& operator=(const OneDnnMatmul&) = delete;
    OneDnnMatmul(OneDnnMatmul&&) = delete;
    OneDnnMatmul& operator=(OneDnnMatmul&&) = delete;

    /// Whether this processor multiplies operands of the type without emulation.
    [[nodiscard]] static bool supports(DataType type);
    /// Whether this processor has tiles of bf16 (AMX), and oneDNN uses them.
    [[nodiscard]] static bool has_tiles();
    /// Whether oneDNN itself does all that the operation asks for.
    [[nodiscard]] static bool takes_one_pass(const Matmul& operation);
    /// For people: "oneDNN 2.6.0".
    [[nodiscard]] static std::string version();
    /// "2.6.0": of the library that runs, and of the one that this was compiled with.
    [[nodiscard]] static std::string running_version();
    [[nodiscard]] static std::string compiled_version();

    /// Backend::matmul for a result and a depth that are not empty. Sums are f32; activations and their gradients are
    /// applied in a second pass over f32 sums. Error kDevice when oneDNN refuses.
    void multiply(Workspace& workspace, const Tensor& y, const Matmul& operation);

   private:
    class Primitives;
    std::unique_ptr<Primitives> primitives_;
};

}  // namespace duologue::cpu
