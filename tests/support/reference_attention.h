// Attention of the reference back end as pure functions of matrices: scores, softmax and sums written out.
#pragma once

#include <cstdint>
#include <functional>

#include "duologue/backend/backend.h"
#include "support/host_matrix.h"

namespace duologue {

/// What dropout multiplies the probability of a pair by: 0 or the scale of what is kept.
using AttentionFactor = std::function<double(std::int64_t query_row, std::int64_t head, std::int64_t key_row)>;

/// The operands of Attention as values.
struct AttentionValues {
    HostMatrix q;
    HostMatrix k;
    HostMatrix v;
    HostMatrix q_offsets;   ///< [1, S+1]
    HostMatrix kv_offsets;  ///< [1, S+1]
    Causal causal = Causal::kNo;
    std::int64_t heads = 1;
    double scale = 1.0;
    AttentionFactor factor;
};

struct AttentionResult {
    HostMatrix y;
    HostMatrix stats;
};

struct AttentionGradients {
    HostMatrix dq;
    HostMatrix dk;
    HostMatrix dv;
};

/// The operation's tensors as values, with the offsets checked against the rows and the longest lengths.
[[nodiscard]] AttentionValues attention_values(const Attention& operation, AttentionFactor factor);
[[nodiscard]] AttentionResult attend(const AttentionValues& values);
[[nodiscard]] AttentionGradients attention_gradients(const AttentionValues& values, const HostMatrix& dy,
                                                     const HostMatrix& stats);
/// One query per sequence against a cache.
[[nodiscard]] HostMatrix attend_cached(const AttentionDecode& operation);

/// For every result the sum of the absolute values of what it is a sum of: what tolerances are proportional to.
struct AttentionMagnitudes {
    HostMatrix y;
    HostMatrix stats;
    HostMatrix dq;
    HostMatrix dk;
    HostMatrix dv;
};
[[nodiscard]] AttentionMagnitudes attention_magnitudes(const AttentionValues& values, const HostMatrix& dy);

}  // namespace duologue
