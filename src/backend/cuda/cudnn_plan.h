// CudnnPlan: one attention of cuDNN for packed sequences, described by numbers and compiled for a card.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "duologue/backend/backend.h"
#include "duologue/backend/cuda_backend.h"

struct cudnnContext;
struct CUstream_st;

namespace duologue::cuda {

/// cuDNN's kernels work on tiles of at most so many rows: lengths that they are compiled for are multiples of it.
inline constexpr std::int64_t kCudnnTileRows = 128;
/// Columns of a head come in so many: 16 bytes of bf16.
inline constexpr std::int64_t kCudnnHeadMultiple = 8;

enum class AttentionPass : std::uint8_t { kForward, kForwardWithStats, kBackward };
enum class MaskDump : std::uint8_t { kNo, kYes };

/// All that a plan is compiled for. Lengths, offsets, seeds and addresses are data of each call. Strides are elements
/// from one row to the next; heads are adjacent slices of a row. dq is always packed.
struct AttentionDescription {
    AttentionPass pass = AttentionPass::kForward;
    std::int64_t sequences = 1;
    std::int64_t heads = 1;
    std::int64_t head_columns = 64;
    std::int64_t max_q_length = kCudnnTileRows;   ///< a multiple of kCudnnTileRows
    std::int64_t max_kv_length = kCudnnTileRows;  ///< a multiple of kCudnnTileRows
    std::int64_t most_q_rows = kCudnnTileRows;  ///< of all sequences together; the backward pass's workspace is for it
    std::int64_t most_kv_rows = kCudnnTileRows;
    std::int64_t q_stride = 64;
    std::int64_t k_stride = 64;
    std::int64_t v_stride = 64;
    std::int64_t y_stride = 64;
    std::int64_t dy_stride = 0;  ///< this and what follows: backward only
    std::int64_t dk_stride = 0;
    std::int64_t dv_stride = 0;
    Causal causal = Causal::kNo;
    float scale = 1.0F;
    float dropout = 0.0F;
    Deterministic deterministic = Deterministic::kNo;
    MaskDump mask_dump = MaskDump::kNo;  ///< the mask is written out as well, for tests

    // NOLINTNEXTLINE(modernize-use-nullptr): clang-tidy 14 misreads a defaulted comparison
    auto operator<=>(const AttentionDescription&) const = default;
};

/// A text for messages.
[[nodiscard]] std::string told(const AttentionDescription& description);

/// How the backward pass reads its stats: kPacked [row, head], as the forward pass writes them, or kPadded [sequence,
/// head, max_q_length].
enum class StatsLayout : std::uint8_t { kPacked, kPadded };
/// Ampere's kernels know kPadded only.
[[nodiscard]] inline StatsLayout backward_stats(int capability) {
    return capability < 90 ? StatsLayout::kPadded : StatsLayout::kPacked;
}

/// What a plan's call is handed: all in device memory. Offsets are in elements of the tensor they belong to.
struct AttentionAddresses {
    void* q = nullptr;
    void* k = nullptr;
    void* v = nullptr;
    void* y = nullptr;
    void* stats = nullptr;  ///< f32, token-major [row, head], or padded in the backward pass: see backward_stats()
    void* dy = nullptr;
    void* dq = nullptr;
    void* dk = nullptr;
    void* dv = nullptr;
    std::int64_t* offsets = nullptr;     ///< [kOffsetArrays][sequences + 1], in the order of OffsetArray
    std::int32_t* q_lengths = nullptr;   ///< [sequences], none 0
    std::int32_t* kv_lengths = nullptr;  ///< [sequences], none 0
    std::int64_t* seed = nullptr;        ///< seed, offset
    void* mask_dump = nullptr;           ///< f32 [sequences, heads, max_q_length, max_kv_length]
    void* workspace = nullptr;
};

/// Which tensors have offsets of their own.
enum OffsetArray : std::uint8_t {
    kQOffsets,
    kKOffsets,
    kVOffsets,
    kYOffsets,
    kStatsOffsets,
    kDyOffsets,
    kDqOffsets,
    kDkOffsets,
    kDvOffsets,
    kOffsetArrays,
};

/// cuDNN on one stream.
class CudnnHandle {
   public:
    explicit CudnnHandle(CUstream_st* stream);
    [[nodiscard]] cudnnContext* get() const { return context_.get(); }

   private:
    struct Deleter {
        void operator()(cudnnContext* context) const;
    };
    std::unique_ptr<cudnnContext, Deleter> context_;
};

/// "9.19.0"
[[nodiscard]] std::string cudnn_version();

class CudnnPlan {
   public:
    /// Compiles the plan for the handle's card. Error kDevice, naming device.attention=own, where cuDNN does not take
    /// it.
    CudnnPlan(const AttentionDescription& description, int capability, cudnnContext* handle);
    ~CudnnPlan();
    CudnnPlan(CudnnPlan&&) noexcept;
    CudnnPlan& operator=(CudnnPlan&&) noexcept;
    CudnnPlan(const CudnnPlan&) = delete;
    CudnnPlan& operator=(const CudnnPlan&) = delete;

    [[nodiscard]] std::int64_t workspace_bytes() const;
    /// Queues it on the handle's stream.
    void execute(cudnnContext* handle, const AttentionAddresses& at) const;

   private:
    struct Compiled;
    std::unique_ptr<Compiled> compiled_;
};

/// What cuDNN says of a description for a card that need not be there.
struct PlanReport {
    std::string refusal;  ///< "" where it is accepted
    std::int64_t workspace_bytes = 0;
};

/// `device_properties` is cuDNN's description of the card, JSON. Needs a loadable libcuda.so.1 and no GPU. The
/// workspace is what a call will need, but for what the compiled kernel itself takes (some 100 KB).
[[nodiscard]] PlanReport check_plan(const AttentionDescription& description, int capability,
                                    const std::string& device_properties);

}  // namespace duologue::cuda
