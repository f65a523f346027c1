// Contract of attention over packed sequences, forward and backward.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
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

// Where kernels divide sequences: strips of 16 rows, tiles of 64; and the widths of heads that they take.
TEST_P(AttentionContract, LengthsAroundThoseOfTiles) {
    const Lengths around{1, 15, 16, 17, 63, 64, 65};
    for (const std::int64_t width : {16, 48, 64, 128}) {
        for (const Causal causal : {Causal::kNo, Causal::kYes}) {
            AttentionProblem problem = self_attention(around, {.heads = 2, .width = width}, causal);
            problem.layout = width == 64 ? Layout::kAlignedSlice : Layout::kPacked;
            expect_like_the_reference(problem);
        }
    }
    for (const Causal causal : {Causal::kNo, Causal::kYes}) {
        expect_like_the_reference(self_attention({128, 0, 200, 31}, {2, 64}, causal));
    }
}

TEST_P(AttentionContract, CrossAttentionBetweenShortAndLongSequences) {
    const std::vector<std::pair<Lengths, Lengths>> both{
        {{1, 65, 0, 16, 200}, {130, 64, 70, 17, 3}}, {{33, 0, 150, 7}, {20, 0, 129, 64}}, {{0, 0}, {5, 80}}};
    for (const auto& [queries, keys] : both) {
        for (const std::int64_t width : {32, 64, 112}) {
            expect_like_the_reference(
                {.queries = queries, .keys = keys, .heads = {2, width}, .layout = Layout::kAlignedSlice});
        }
    }
}

// The form of training's micro-batches: no sequence is empty, and the last has a whole number of tiles.
TEST_P(AttentionContract, TiledPacking) {
    const std::vector<std::pair<Lengths, Lengths>> both{
        {{128}, {128}}, {{1, 40, 7, 128}, {1, 40, 7, 128}}, {{130, 5, 60, 256}, {130, 5, 60, 256}}};
    for (const auto& [queries, keys] : both) {
        for (const Causal causal : {Causal::kNo, Causal::kYes}) {
            expect_like_the_reference(
                {.queries = queries, .keys = keys, .causal = causal, .heads = {2, 32}, .packing = Packing::kTiled});
        }
    }
    expect_like_the_reference(
        {.queries = {3, 90, 128, 128}, .keys = {200, 1, 33, 256}, .heads = {3, 64}, .packing = Packing::kTiled});
}

// Queries, keys and values as the model has them: slices of one product, and their gradients slices of its gradient.
// The memory behind all of them is NaN.
TEST_P(AttentionContract, TiledSlicesOfOneMatrixGiveWhatSeparateOnesGive) {
    AttentionProblem problem = self_attention({1, 40, 7, 128}, {2, 32}, Causal::kYes);
    problem.packing = Packing::kTiled;
    const std::int64_t rows = total(problem.queries);
    const std::int64_t columns = problem.heads.heads * problem.heads.width;
    const auto followed_by_nan = [&](const HostMatrix& matrix) {
        HostMatrix longer = filled(rows + 256, matrix.columns(), std::numeric_limits<double>::quiet_NaN());
        for (std::int64_t i = 0; i < matrix.elements(); ++i) longer[i] = matrix[i];
        return longer;
    };
    const auto slice = [&](const HostMatrix& matrix, std::int64_t first) {
        HostMatrix part(rows, columns);
        for (std::int64_t r = 0; r < rows; ++r) {
            for (std::int64_t c = 0; c < columns; ++c) part(r, c) = matrix(r, first + c);
        }
        return part;
    };
    const HostMatrix qkv = rounded(normal(rows, 3 * columns), type());
    const HostMatrix dy_values = rounded(normal(rows, columns), type());
    ContractRun run(backends());
    const AttentionOperands in = operands(run, problem, slice(qkv, 0), slice(qkv, columns), slice(qkv, 2 * columns));
    const AttentionOutputs separate = results(run, problem);
    const ContractOperand dy = run.input(type(), dy_values);
    const ContractOperand all = run.input(type(), followed_by_nan(qkv));
    const ContractOperand all_dy = run.input(type(), followed_by_nan(dy_values));
    const ContractOperand all_y = run.output(type(), rows + 256, columns);
    const ContractOperand all_stats = run.output(DataType::kF32, rows + 256, problem.heads.heads);
    const ContractOperand gradients = run.output(type(), rows, 3 * columns);
    run.run([&](Backend& backend, const ContractPlace& at) {
        forward_and_backward(backend, at, in, separate, dy);
        const auto part = [&](const ContractOperand& operand, std::int64_t i) {
            return at(operand).row_range(0, rows).column_range(i * columns, columns);
        };
        Attention operation = in.operation(at);
        operation.q = part(all, 0);
        operation.k = part(all, 1);
        operation.v = part(all, 2);
        const Tensor stats = at(all_stats).row_range(0, rows);
        backend.attention_forward(part(all_y, 0), stats, operation);
        backend.attention_backward(part(gradients, 0), part(gradients, 1), part(gradients, 2), part(all_dy, 0),
                                   part(all_y, 0), stats, at(separate.scratch), operation);
    });
    const AttentionMagnitudes magnitudes = attention_magnitudes(values_of(run, in, kept_all), run.wanted(dy));
    const HostMatrix got = run.got(gradients);
    EXPECT_TRUE(close(slice(run.got(all_y), 0), run.got(separate.y), magnitudes.y, tolerance(160, 1.0)));
    EXPECT_TRUE(close(slice(got, 0), run.got(separate.dq), magnitudes.dq, tolerance(160, 3.0)));
    EXPECT_TRUE(close(slice(got, columns), run.got(separate.dk), magnitudes.dk, tolerance(160, 3.0)));
    EXPECT_TRUE(close(slice(got, 2 * columns), run.got(separate.dv), magnitudes.dv, tolerance(160, 1.0)));
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
