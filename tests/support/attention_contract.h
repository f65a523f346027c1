// AttentionContract: attention problems of packed sequences, their operands and results in a ContractRun.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "support/contract.h"
#include "support/reference_attention.h"

namespace duologue {
using Lengths = std::vector<std::int64_t>;

struct Heads {
    std::int64_t heads = 1;
    std::int64_t width = 1;  // D
};

struct AttentionProblem {
    Lengths queries;
    Lengths keys;
    Causal causal = Causal::kNo;
    Heads heads = {};
    Layout layout = Layout::kPacked;
    Dropout dropout = {};
    Packing packing = Packing::kPlain;
};

inline std::int64_t total(const Lengths& lengths) {
    return std::accumulate(lengths.begin(), lengths.end(), std::int64_t{0});
}

inline std::int64_t longest(const Lengths& lengths) {
    return lengths.empty() ? 0 : *std::max_element(lengths.begin(), lengths.end());
}

inline HostMatrix offsets_of(const Lengths& lengths) {
    HostMatrix offsets(1, static_cast<std::int64_t>(lengths.size()) + 1);
    for (std::size_t s = 0; s < lengths.size(); ++s) {
        const auto i = static_cast<std::int64_t>(s);
        offsets[i + 1] = offsets[i] + static_cast<double>(lengths[s]);
    }
    return offsets;
}

inline std::string told(const AttentionProblem& problem) {
    return fmt::format("queries [{}] keys [{}] H {} D {} {} {}{}", fmt::join(problem.queries, " "),
                       fmt::join(problem.keys, " "), problem.heads.heads, problem.heads.width,
                       problem.causal == Causal::kYes ? "causal" : "full",
                       problem.layout == Layout::kPacked    ? "packed"
                       : problem.layout == Layout::kStrided ? "strided"
                                                            : "aligned slice",
                       problem.packing == Packing::kTiled ? " tiled" : "");
}

inline AttentionProblem self_attention(const Lengths& lengths, const Heads& heads, Causal causal) {
    return {.queries = lengths, .keys = lengths, .causal = causal, .heads = heads};
}

inline float scale_of(const Heads& heads) { return 1.0F / std::sqrt(static_cast<float>(heads.width)); }

inline Offsets offsets(const Lengths& lengths, Packing packing, const Tensor& values) {
    return {.values = values,
            .sequences = static_cast<std::int64_t>(lengths.size()),
            .max_length = longest(lengths),
            .packing = packing};
}

// The operands of a problem in a run.
struct AttentionOperands {
    ContractOperand q;
    ContractOperand k;
    ContractOperand v;
    ContractOperand q_offsets;
    ContractOperand kv_offsets;
    AttentionProblem problem;

    [[nodiscard]] Attention operation(const ContractPlace& at) const {
        return {.q = at(q),
                .k = at(k),
                .v = at(v),
                .q_offsets = offsets(problem.queries, problem.packing, at(q_offsets)),
                .kv_offsets = offsets(problem.keys, problem.packing, at(kv_offsets)),
                .causal = problem.causal,
                .heads = problem.heads.heads,
                .scale = scale_of(problem.heads),
                .dropout = problem.dropout};
    }
};

struct AttentionOutputs {
    ContractOperand y;
    ContractOperand stats;
    ContractOperand dq;
    ContractOperand dk;
    ContractOperand dv;
    ContractOperand scratch;
};

class AttentionContract : public ContractTest {
   protected:
    AttentionOperands operands(ContractRun& run, const AttentionProblem& problem, const HostMatrix& q,
                               const HostMatrix& k, const HostMatrix& v) {
        return {.q = run.input(type(), q, problem.layout),
                .k = run.input(type(), k, problem.layout),
                .v = run.input(type(), v, problem.layout),
                .q_offsets = run.input(DataType::kI32, offsets_of(problem.queries)),
                .kv_offsets = run.input(DataType::kI32, offsets_of(problem.keys)),
                .problem = problem};
    }

    AttentionOperands operands(ContractRun& run, const AttentionProblem& problem) {
        const std::int64_t columns = problem.heads.heads * problem.heads.width;
        const HostMatrix q = rounded(normal(total(problem.queries), columns), type());
        const HostMatrix k = rounded(normal(total(problem.keys), columns), type());
        return operands(run, problem, q, k, rounded(normal(total(problem.keys), columns), type()));
    }

    AttentionOutputs results(ContractRun& run, const AttentionProblem& problem) {
        const std::int64_t columns = problem.heads.heads * problem.heads.width;
        const std::int64_t queries = total(problem.queries);
        const std::int64_t keys = total(problem.keys);
        return {.y = run.output(type(), queries, columns, problem.layout),
                .stats = run.output(DataType::kF32, queries, problem.heads.heads),
                .dq = run.output(type(), queries, columns, problem.layout),
                .dk = run.output(type(), keys, columns, problem.layout),
                .dv = run.output(type(), keys, columns, problem.layout),
                .scratch = run.workspace([&](const Backend& backend) {
                    Attention shape;
                    shape.q = make_tensor(nullptr, type(), queries, columns);
                    shape.k = make_tensor(nullptr, type(), keys, columns);
                    shape.v = shape.k;
                    shape.q_offsets = offsets(problem.queries, problem.packing, {});
                    shape.kv_offsets = offsets(problem.keys, problem.packing, {});
                    shape.causal = problem.causal;
                    shape.scale = scale_of(problem.heads);
                    shape.dropout = problem.dropout;
                    shape.heads = problem.heads.heads;
                    return backend.attention_scratch_bytes(shape);
                })};
    }

    static void forward_and_backward(Backend& backend, const ContractPlace& at, const AttentionOperands& in,
                                     const AttentionOutputs& out, const ContractOperand& dy) {
        const Attention operation = in.operation(at);
        backend.attention_forward(at(out.y), at(out.stats), operation);
        backend.attention_backward(at(out.dq), at(out.dk), at(out.dv), at(dy), at(out.y), at(out.stats),
                                   at(out.scratch), operation);
    }

    // All results against those of the reference, within bounds that the reference's probabilities give. Heads are
    // widened to what the back end under test takes.
    void expect_like_the_reference(AttentionProblem problem) {
        const std::int64_t multiple = GetParam().head_multiple;
        problem.heads.width = (problem.heads.width + multiple - 1) / multiple * multiple;
        SCOPED_TRACE(told(problem));
        ContractRun run(backends());
        const AttentionOperands in = operands(run, problem);
        const AttentionOutputs out = results(run, problem);
        const std::int64_t columns = problem.heads.heads * problem.heads.width;
        const ContractOperand dy = run.input(type(), normal(total(problem.queries), columns), problem.layout);
        run.run([&](Backend& backend, const ContractPlace& at) { forward_and_backward(backend, at, in, out, dy); });
        const AttentionMagnitudes magnitudes = attention_magnitudes(values_of(run, in, kept_all), run.wanted(dy));
        const std::int64_t length = problem.heads.width + longest(problem.keys);
        EXPECT_TRUE(run.matches(out.stats, magnitudes.stats, {.length = length}));
        EXPECT_TRUE(run.matches(out.y, magnitudes.y, tolerance(length, 1.0)));
        EXPECT_TRUE(run.matches(out.dv, magnitudes.dv, tolerance(length, 1.0)));
        EXPECT_TRUE(run.matches(out.dq, magnitudes.dq, tolerance(length, 3.0)));
        EXPECT_TRUE(run.matches(out.dk, magnitudes.dk, tolerance(length, 3.0)));
    }

    // With bf16 the probabilities may be rounded before they meet v or dy; dq and dk see three such roundings, those of
    // the probabilities, of y (which is stored) and of the gradients of the scores.
    [[nodiscard]] Tolerance tolerance(std::int64_t length, double roundings) const {
        return {
            .type = type(), .length = length, .intermediate_roundings = type() == DataType::kBf16 ? roundings : 0.0};
    }

    static double kept_all(std::int64_t /*query_row*/, std::int64_t /*head*/, std::int64_t /*key_row*/) { return 1.0; }

    static AttentionValues values_of(const ContractRun& run, const AttentionOperands& in,
                                     const AttentionFactor& factor) {
        return {.q = run.wanted(in.q),
                .k = run.wanted(in.k),
                .v = run.wanted(in.v),
                .q_offsets = offsets_of(in.problem.queries),
                .kv_offsets = offsets_of(in.problem.keys),
                .causal = in.problem.causal,
                .heads = in.problem.heads.heads,
                .scale = scale_of(in.problem.heads),
                .factor = factor};
    }
};

}  // namespace duologue
