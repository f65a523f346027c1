// Attention of the reference back end: scores, softmax and sums written out.
#include "support/reference_attention.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "duologue/core/error.h"

namespace duologue {

namespace {

// One query row and one head: the columns [first, last) and the key rows [begin, end) that it sees.
struct Query {
    std::int64_t row = 0;
    std::int64_t head = 0;
    std::int64_t first = 0;
    std::int64_t last = 0;
    std::int64_t begin = 0;
    std::int64_t end = 0;
};

// A query's probabilities before dropout, of the keys begin, begin + 1, ...
struct Softmax {
    std::vector<double> probabilities;
    double log_sum = 0.0;
    double largest_terms = 0.0;  // of one score: the sum of |scale q k|

    [[nodiscard]] double of(const Query& query, std::int64_t key) const {
        return probabilities[static_cast<std::size_t>(key - query.begin)];
    }
};

std::vector<Query> queries_of(const AttentionValues& values) {
    const std::int64_t width = values.q.columns() / values.heads;
    std::vector<Query> queries;
    for (std::int64_t s = 0; s + 1 < values.q_offsets.columns(); ++s) {
        const auto first_row = static_cast<std::int64_t>(values.q_offsets[s]);
        const auto last_row = static_cast<std::int64_t>(values.q_offsets[s + 1]);
        const auto begin = static_cast<std::int64_t>(values.kv_offsets[s]);
        const auto end = static_cast<std::int64_t>(values.kv_offsets[s + 1]);
        for (std::int64_t row = first_row; row < last_row; ++row) {
            const std::int64_t seen = values.causal == Causal::kYes ? begin + (row - first_row) + 1 : end;
            for (std::int64_t head = 0; head < values.heads; ++head) {
                queries.push_back({.row = row,
                                   .head = head,
                                   .first = head * width,
                                   .last = (head + 1) * width,
                                   .begin = begin,
                                   .end = seen});
            }
        }
    }
    return queries;
}

Softmax softmax(const AttentionValues& values, const Query& query) {
    Softmax result;
    std::vector<double>& scores = result.probabilities;
    for (std::int64_t key = query.begin; key < query.end; ++key) {
        double sum = 0.0;
        double terms = 0.0;
        for (std::int64_t c = query.first; c < query.last; ++c) {
            sum += values.scale * values.q(query.row, c) * values.k(key, c);
            terms += std::abs(values.scale * values.q(query.row, c) * values.k(key, c));
        }
        scores.push_back(sum);
        result.largest_terms = std::max(result.largest_terms, terms);
    }
    const double largest = *std::max_element(scores.begin(), scores.end());
    double sum = 0.0;
    for (const double score : scores) sum += std::exp(score - largest);
    result.log_sum = largest + std::log(sum);
    for (double& score : scores) score = std::exp(score - result.log_sum);
    return result;
}

HostMatrix like(const HostMatrix& matrix) { return {matrix.rows(), matrix.columns()}; }

void check_offsets(const HostMatrix& begins, const Offsets& offsets, std::int64_t rows) {
    require(begins[0] == 0 && begins[offsets.sequences] == static_cast<double>(rows), ErrorCode::kInternal,
            "offsets from {} to {} over {} rows", begins[0], begins[offsets.sequences], rows);
    for (std::int64_t s = 0; s < offsets.sequences; ++s) {
        const double length = begins[s + 1] - begins[s];
        require(length >= 0 && length <= static_cast<double>(offsets.max_length), ErrorCode::kInternal,
                "sequence {} has length {}, the longest is {}", s, length, offsets.max_length);
    }
}

void check_pairs(const AttentionValues& values) {
    for (std::int64_t s = 0; s + 1 < values.q_offsets.columns(); ++s) {
        const double queries = values.q_offsets[s + 1] - values.q_offsets[s];
        const double keys = values.kv_offsets[s + 1] - values.kv_offsets[s];
        require(queries == 0 || keys > 0, ErrorCode::kInternal, "sequence {} has {} queries but no keys", s, queries);
        require(values.causal == Causal::kNo || queries == keys, ErrorCode::kInternal,
                "causal sequence {} has {} queries and {} keys", s, queries, keys);
    }
}

}  // namespace

AttentionValues attention_values(const Attention& operation, AttentionFactor factor) {
    AttentionValues values{.q = load(operation.q),
                           .k = load(operation.k),
                           .v = load(operation.v),
                           .q_offsets = load(operation.q_offsets.values),
                           .kv_offsets = load(operation.kv_offsets.values),
                           .causal = operation.causal,
                           .heads = operation.heads,
                           .scale = operation.scale,
                           .factor = std::move(factor)};
    check_offsets(values.q_offsets, operation.q_offsets, values.q.rows());
    check_offsets(values.kv_offsets, operation.kv_offsets, values.k.rows());
    check_pairs(values);
    return values;
}

AttentionResult attend(const AttentionValues& values) {
    AttentionResult result{.y = like(values.q), .stats = HostMatrix(values.q.rows(), values.heads)};
    for (const Query& query : queries_of(values)) {
        const Softmax p = softmax(values, query);
        result.stats(query.row, query.head) = p.log_sum;
        for (std::int64_t key = query.begin; key < query.end; ++key) {
            const double weight = values.factor(query.row, query.head, key) * p.of(query, key);
            for (std::int64_t c = query.first; c < query.last; ++c) result.y(query.row, c) += weight * values.v(key, c);
        }
    }
    return result;
}

// y_i = sum_j f_ij p_ij v_j with p = softmax(s), s_ij = scale q_i k_j, so dp_ij = f_ij (dy_i v_j) and
// ds_ij = p_ij (dp_ij - sum_l p_il dp_il). The probabilities are those that the stats of the forward pass give.
AttentionGradients attention_gradients(const AttentionValues& values, const HostMatrix& dy, const HostMatrix& stats) {
    AttentionGradients result{.dq = like(values.q), .dk = like(values.k), .dv = like(values.v)};
    for (const Query& query : queries_of(values)) {
        Softmax p = softmax(values, query);
        const double correction = std::exp(p.log_sum - stats(query.row, query.head));
        for (double& probability : p.probabilities) probability *= correction;
        std::vector<double> dp;
        double mean = 0.0;
        for (std::int64_t key = query.begin; key < query.end; ++key) {
            const double factor = values.factor(query.row, query.head, key);
            dp.push_back(0.0);
            for (std::int64_t c = query.first; c < query.last; ++c) {
                dp.back() += factor * dy(query.row, c) * values.v(key, c);
                result.dv(key, c) += factor * p.of(query, key) * dy(query.row, c);
            }
            mean += p.of(query, key) * dp.back();
        }
        for (std::int64_t key = query.begin; key < query.end; ++key) {
            const double ds = p.of(query, key) * (dp[static_cast<std::size_t>(key - query.begin)] - mean);
            for (std::int64_t c = query.first; c < query.last; ++c) {
                result.dq(query.row, c) += values.scale * ds * values.k(key, c);
                result.dk(key, c) += values.scale * ds * values.q(query.row, c);
            }
        }
    }
    return result;
}

// A cache is sequences of one query and `length` of the keys each.
HostMatrix attend_cached(const AttentionDecode& operation) {
    const HostMatrix lengths = load(operation.lengths);
    AttentionValues values{.q = load(operation.q),
                           .k = load(operation.k_cache),
                           .v = load(operation.v_cache),
                           .heads = operation.heads,
                           .scale = operation.scale,
                           .factor = [](std::int64_t, std::int64_t, std::int64_t) { return 1.0; }};
    HostMatrix y = like(values.q);
    for (std::int64_t row = 0; row < y.rows(); ++row) {
        require(lengths[row] >= 1 && lengths[row] <= static_cast<double>(operation.capacity), ErrorCode::kInternal,
                "length {} in a cache of {}", lengths[row], operation.capacity);
        values.q_offsets = HostMatrix(1, 2);
        values.kv_offsets = HostMatrix(1, 2);
        values.q_offsets[0] = static_cast<double>(row);
        values.q_offsets[1] = static_cast<double>(row + 1);
        values.kv_offsets[0] = static_cast<double>(row * operation.capacity);
        values.kv_offsets[1] = values.kv_offsets[0] + lengths[row];
        const HostMatrix own = attend(values).y;
        for (std::int64_t c = 0; c < y.columns(); ++c) y(row, c) = own(row, c);
    }
    return y;
}

AttentionMagnitudes attention_magnitudes(const AttentionValues& values, const HostMatrix& dy) {
    AttentionMagnitudes result{.y = like(values.q),
                               .stats = HostMatrix(values.q.rows(), values.heads),
                               .dq = like(values.q),
                               .dk = like(values.k),
                               .dv = like(values.v)};
    for (const Query& query : queries_of(values)) {
        const Softmax p = softmax(values, query);
        result.stats(query.row, query.head) = p.largest_terms + std::abs(p.log_sum);
        std::vector<double> dp;
        double mean = 0.0;
        for (std::int64_t key = query.begin; key < query.end; ++key) {
            const double factor = values.factor(query.row, query.head, key);
            dp.push_back(0.0);
            for (std::int64_t c = query.first; c < query.last; ++c) {
                dp.back() += std::abs(factor * dy(query.row, c) * values.v(key, c));
                result.dv(key, c) += std::abs(factor * p.of(query, key) * dy(query.row, c));
                result.y(query.row, c) += std::abs(factor * p.of(query, key) * values.v(key, c));
            }
            mean += p.of(query, key) * dp.back();
        }
        for (std::int64_t key = query.begin; key < query.end; ++key) {
            const double ds = p.of(query, key) * (dp[static_cast<std::size_t>(key - query.begin)] + mean);
            for (std::int64_t c = query.first; c < query.last; ++c) {
                result.dq(query.row, c) += std::abs(values.scale * ds * values.k(key, c));
                result.dk(key, c) += std::abs(values.scale * ds * values.q(query.row, c));
            }
        }
    }
    return result;
}

}  // namespace duologue
