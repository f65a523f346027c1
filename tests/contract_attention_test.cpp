// Contract of attention over packed sequences, forward and backward.
#include <gtest/gtest.h>

#include <cmath>
#include <utility>
#include <vector>

#include "support/attention_contract.h"

namespace duologue {
namespace {

const std::vector<Heads> kHeads{{1, 1}, {2, 3}, {4, 8}, {3, 17}, {2, 32}, {1, 64}, {2, 100}};
const std::vector<Lengths> kLengths{{}, {1}, {2, 1, 3}, {7, 0, 17, 0}, {64}, {65, 33, 1}, {1, 1, 1}, {130, 5}, {257}};
const std::vector<std::pair<Lengths, Lengths>> kCrossLengths{
    {{1}, {9}}, {{9}, {1}}, {{3, 1, 7}, {5, 64, 2}}, {{0, 4, 0}, {3, 4, 0}}, {{33, 100}, {129, 17}}, {{64}, {64}}};

TEST_P(AttentionContract, SelfAttentionOverRaggedSequences) {
    for (const Lengths& lengths : kLengths) expect_like_the_reference(self_attention(lengths, {2, 32}, Causal::kNo));
}

TEST_P(AttentionContract, CausalAttentionOverRaggedSequences) {
    for (const Lengths& lengths : kLengths) expect_like_the_reference(self_attention(lengths, {2, 32}, Causal::kYes));
}

TEST_P(AttentionContract, CrossAttentionOverRaggedSequences) {
    for (const auto& [queries, keys] : kCrossLengths) {
        for (const Layout layout : {Layout::kPacked, Layout::kStrided}) {
            expect_like_the_reference({.queries = queries, .keys = keys, .heads = {2, 32}, .layout = layout});
        }
    }
}

TEST_P(AttentionContract, HeadsOfAnyNumberAndWidth) {
    for (const Heads& heads : kHeads) {
        for (const Causal causal : {Causal::kNo, Causal::kYes}) {
            AttentionProblem problem = self_attention({7, 33, 0, 19}, heads, causal);
            expect_like_the_reference(problem);
            problem.layout = Layout::kStrided;
            expect_like_the_reference(problem);
        }
    }
}

TEST_P(AttentionContract, RandomLengthsAndHeads) {
    for (int i = 0; i < 15; ++i) {
        AttentionProblem problem;
        problem.causal = random().below(2) == 0 ? Causal::kNo : Causal::kYes;
        problem.layout = random().below(2) == 0 ? Layout::kPacked : Layout::kStrided;
        problem.heads = {.heads = random_size(6), .width = random_size(80)};
        const std::int64_t sequences = random_size(6);
        for (std::int64_t s = 0; s < sequences; ++s) {
            const std::int64_t queries = random().below(5) == 0 ? 0 : random_size(90);
            problem.queries.push_back(queries);
            problem.keys.push_back(problem.causal == Causal::kYes ? queries : random_size(90));
        }
        expect_like_the_reference(problem);
    }
}

TEST_P(AttentionContract, StatsMayBeAbsentInTheForwardPass) {
    ContractRun run(backends());
    const AttentionProblem problem = self_attention({5, 9}, {2, 8}, Causal::kYes);
    const AttentionOperands in = operands(run, problem);
    const AttentionOutputs with = results(run, problem);
    const AttentionOutputs without = results(run, problem);
    run.run([&](Backend& backend, const ContractPlace& at) {
        backend.attention_forward(at(with.y), at(with.stats), in.operation(at));
        backend.attention_forward(at(without.y), {}, in.operation(at));
    });
    EXPECT_TRUE(same(run.got(with.y), run.got(without.y)));
}

// What a sequence gives must not depend on its neighbours or on where it stands.
TEST_P(AttentionContract, ASequenceGivesTheSameAloneAndPacked) {
    const Heads heads{2, 32};
    const HostMatrix q = normal(20, 64);
    const HostMatrix k = normal(20, 64);
    const HostMatrix v = normal(20, 64);
    const auto rows = [](const HostMatrix& matrix, std::int64_t begin, std::int64_t count) {
        HostMatrix part(count, matrix.columns());
        for (std::int64_t r = 0; r < count; ++r) {
            for (std::int64_t c = 0; c < matrix.columns(); ++c) part(r, c) = matrix(begin + r, c);
        }
        return part;
    };
    ContractRun run(backends());
    const AttentionOperands packed = operands(run, self_attention({4, 11, 5}, heads, Causal::kYes), q, k, v);
    const AttentionOperands alone =
        operands(run, self_attention({11}, heads, Causal::kYes), rows(q, 4, 11), rows(k, 4, 11), rows(v, 4, 11));
    const AttentionOutputs packed_results = results(run, packed.problem);
    const AttentionOutputs alone_results = results(run, alone.problem);
    run.run([&](Backend& backend, const ContractPlace& at) {
        backend.attention_forward(at(packed_results.y), at(packed_results.stats), packed.operation(at));
        backend.attention_forward(at(alone_results.y), at(alone_results.stats), alone.operation(at));
    });
    EXPECT_TRUE(
        close(rows(run.got(packed_results.y), 4, 11), run.got(alone_results.y), {.type = type(), .length = 43}));
}

TEST_P(AttentionContract, ScoresOfAnySizeGiveFiniteResults) {
    ContractRun run(backends());
    const AttentionProblem problem = self_attention({17}, {1, 32}, Causal::kNo);
    const HostMatrix q = normal(17, 32, 100.0);
    const HostMatrix k = normal(17, 32, 100.0);
    const AttentionOperands in = operands(run, problem, q, k, normal(17, 32));
    const AttentionOutputs out = results(run, problem);
    const ContractOperand dy = run.input(type(), normal(17, 32));
    run.run([&](Backend& backend, const ContractPlace& at) { forward_and_backward(backend, at, in, out, dy); });
    // Scores up to 1e5 carry f32 errors that move probabilities where two scores nearly tie; here none do.
    EXPECT_TRUE(run.matches(out.y, {.type = type(), .length = 32, .magnitude = 10.0}));
    for (const ContractOperand& gradient : {out.dq, out.dk, out.dv}) {
        EXPECT_TRUE(std::isfinite(largest_magnitude(run.got(gradient))));
    }
}

INSTANTIATE_TEST_SUITE_P(Backends, AttentionContract, testing::ValuesIn(contract_cases()), case_name);

}  // namespace
}  // namespace duologue
