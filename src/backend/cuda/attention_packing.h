// What cuDNN's attention wants beside its operands: offsets in elements, lengths, seeds; and rows moved into tiles.
#pragma once

#include "backend/cuda/cudnn_plan.h"
#include "backend/cuda/kernels.h"

namespace duologue::cuda {

/// How the sequences of a call lie for cuDNN. kTiled: as they are. kPlain: an empty sequence gets one row, and so does
/// every slot behind the sequences.
struct PackingOrder {
    Packing packing = Packing::kPlain;
    const std::int32_t* q_offsets = nullptr;   ///< the caller's [sequences + 1], rows
    const std::int32_t* kv_offsets = nullptr;  ///< the caller's
    std::int64_t sequences = 0;
    std::int64_t slots = 0;  ///< at least `sequences`
    /// Elements from row to row of each of OffsetArray's tensors.
    std::int64_t strides[kOffsetArrays] = {};
    std::uint64_t dropout_site = 0;
};

/// Where order_packing() writes, device memory.
struct PackedOrder {
    std::int64_t* offsets = nullptr;     ///< [kOffsetArrays][slots + 1], elements
    std::int32_t* q_lengths = nullptr;   ///< [slots], at least 1
    std::int32_t* kv_lengths = nullptr;  ///< [slots], at least 1
    std::int32_t* q_rows = nullptr;      ///< [slots + 1], rows
    std::int32_t* kv_rows = nullptr;     ///< [slots + 1], rows
    std::int64_t* seed = nullptr;        ///< [2]: of this key and site; 0
};
[[nodiscard]] cudaError_t order_packing(const Launch& launch, const PackedOrder& packed, const PackingOrder& order);

/// Rows of sequences from one packing to another; both begin where their offsets say, rows [S+1].
struct RowMove {
    Tensor to;
    Tensor from;  ///< as many columns, of the same type; both may be strided
    const std::int32_t* to_offsets = nullptr;
    const std::int32_t* from_offsets = nullptr;
    const std::int32_t* lengths_of = nullptr;  ///< the offsets whose differences are the lengths to move
    std::int64_t sequences = 0;
    std::int64_t max_length = 0;
};
[[nodiscard]] cudaError_t move_rows(const Launch& launch, const RowMove& move);

/// to[sequence][head][max_length] f32 = from[row][head], 0 behind a sequence's end.
struct StatsPadding {
    float* to = nullptr;
    const float* from = nullptr;
    const std::int32_t* offsets = nullptr;  ///< rows [sequences + 1]
    std::int64_t sequences = 0;
    std::int64_t heads = 1;
    std::int64_t max_length = 0;
};
[[nodiscard]] cudaError_t pad_stats(const Launch& launch, const StatsPadding& padding);

}  // namespace duologue::cuda
