// What the forward and the backward pass of attention share: where a head of a sequence lies, and padded scratch.
#pragma once

#include <algorithm>
#include <cstdint>

#include "backend/cpu/attention.h"
#include "backend/cpu/dropout_mask.h"
#include "backend/cpu/gemm.h"
#include "backend/cpu/gemm_pack.h"
#include "backend/cpu/parallel.h"
#include "duologue/core/rounding.h"

namespace duologue::cpu {

constexpr std::int64_t kQueriesPerBlock = 48;  // whole panels of every register tile

/// One head of one sequence: rows of queries and keys, the first of its D columns.
struct HeadOfSequence {
    std::int64_t q_begin;
    std::int64_t queries;
    std::int64_t kv_begin;
    std::int64_t keys;
    std::int64_t head;
    std::int64_t column;
};

inline HeadOfSequence head_of_sequence(const Attention& operation, std::int64_t task) {
    const std::int64_t sequence = task / operation.heads;
    const std::int64_t head = task % operation.heads;
    const auto* q = operation.q_offsets.values.as<std::int32_t>() + sequence;
    const auto* kv = operation.kv_offsets.values.as<std::int32_t>() + sequence;
    return {.q_begin = q[0],
            .queries = q[1] - q[0],
            .kv_begin = kv[0],
            .keys = kv[1] - kv[0],
            .head = head,
            .column = head * (operation.q.columns / operation.heads)};
}

/// Error kInternal unless the offsets describe the rows: kernels below trust them.
void check_offsets(const Attention& operation);

/// Lengths of the scratch of one thread, all rounded up to whole panels.
struct AttentionSizes {
    std::int64_t width;         // D
    std::int64_t most_keys;     // the longest sequence of keys
    std::int64_t padded_width;  // D in whole panels of columns
    std::int64_t padded_keys;   // keys in whole panels of columns
    std::int64_t key_rows;      // keys in whole panels of rows

    AttentionSizes(const MicroKernel& kernel, const Attention& operation)
        : width(operation.q.columns / operation.heads),
          most_keys(std::max<std::int64_t>(1, longest(operation.kv_offsets))),
          padded_width(rounded_up(width, kernel.columns)),
          padded_keys(rounded_up(most_keys, kernel.columns)),
          key_rows(rounded_up(most_keys, kernel.rows)) {}

   private:
    static std::int64_t longest(const Offsets& offsets) {
        const auto* values = offsets.values.as<std::int32_t>();
        std::int64_t length = 0;
        for (std::int64_t s = 0; s < offsets.sequences; ++s) {
            length = std::max<std::int64_t>(length, values[s + 1] - values[s]);
        }
        return length;
    }
};

/// Rows [row, row + rows) of the head's columns as an operand whose `across` index is the row (kDepth) or the column.
template <class T>
PackSource<T> head_rows(const Tensor& tensor, std::int64_t row, std::int64_t rows, std::int64_t column,
                        std::int64_t width, Adjacent adjacent) {
    const T* data = tensor.as<T>() + row * tensor.row_stride + column;
    if (adjacent == Adjacent::kDepth) return {data, tensor.row_stride, adjacent, rows, width};
    return {data, tensor.row_stride, adjacent, width, rows};
}

/// The dropout factors of one query's probabilities.
inline const float* probability_factors(const DropoutMask& mask, float* buffer, const Attention& operation,
                                        const HeadOfSequence& at, std::int64_t query) {
    const std::int64_t row = (at.q_begin + query) * operation.heads + at.head;
    return mask.factors(buffer, static_cast<std::uint64_t>(row * operation.k.rows + at.kv_begin), at.keys);
}

/// How many keys a query sees.
inline std::int64_t visible_keys(const Attention& operation, const HeadOfSequence& at, std::int64_t query) {
    return operation.causal == Causal::kYes ? query + 1 : at.keys;
}

}  // namespace duologue::cpu
