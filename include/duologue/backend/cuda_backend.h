// The CUDA back end: one NVIDIA GPU through cuBLASLt, cuDNN and own kernels, in a module that is loaded when it is
// asked for (core/device_module.h).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "duologue/backend/backend.h"
#include "duologue/core/device_stream.h"

namespace duologue {

/// Who computes attention over sequences. kOwn: this project's kernels, exact for f32, on tensor cores for bf16.
/// kCudnn: cuDNN, which takes bf16 only. kAuto: for f32 our own; for bf16 the one that is faster with the first batch,
/// our own where the order of sums has to be fixed, and cuDNN for heads that our tensor cores do not take. What the
/// chosen one does not take is an error. Decoding (one query per sequence) is this project's in any case.
enum class AttentionChoice : std::uint8_t { kAuto, kOwn, kCudnn };

/// kNo: the fastest algorithms; sums may be taken in another order each time. kYes: equal inputs give equal bits, in
/// another process too: products by the library's first choice instead of by timing, attention's gradients in a fixed
/// order (more memory, slower).
enum class Deterministic : std::uint8_t { kNo, kYes };

/// kYes: work that repeats is captured into CUDA graphs; kNo: every kernel is launched by itself. The results are
/// equal.
enum class Graphs : std::uint8_t { kNo, kYes };

struct CudaOptions {
    int device = 0;  ///< among the GPUs that this process may use
    AttentionChoice attention = AttentionChoice::kAuto;
    Deterministic deterministic = Deterministic::kNo;
    Graphs graphs = Graphs::kYes;
};

class CudaBackend : public Backend {
   public:
    [[nodiscard]] virtual DeviceStream compute_stream() const = 0;
};

/// A GPU of this machine.
struct CudaDevice {
    int index = 0;   ///< CUDA's number in this process
    std::string id;  ///< the card's own, alike in every process
};

/// The GPUs that this process may use and that the back end can; none where there is no driver or no such card. Error
/// kDevice where this build has no CUDA back end, or no CUDA library to load it with.
[[nodiscard]] std::vector<CudaDevice> cuda_devices();

/// How many GPUs this process may use; 0 where there is none, no driver, or no CUDA back end in this build or
/// no CUDA library to load it with.
[[nodiscard]] int cuda_device_count();

/// Error kDevice where this build has no CUDA back end, there is no such GPU, or it is older than sm_80.
[[nodiscard]] std::unique_ptr<CudaBackend> make_cuda_backend(const CudaOptions& options);

}  // namespace duologue
