// Contract of dropout on attention's probabilities: its share, its masks, and the backward pass that repeats them.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "support/attention_contract.h"

namespace duologue {
namespace {

// With v the identity, y is the matrix of probabilities after dropout. D >= the longest sequence makes room for it.
HostMatrix identity_values(const Lengths& keys, const Heads& heads) {
    HostMatrix v(total(keys), heads.heads * heads.width);
    std::int64_t row = 0;
    for (const std::int64_t length : keys) {
        for (std::int64_t j = 0; j < length; ++j, ++row) {
            for (std::int64_t h = 0; h < heads.heads; ++h) v(row, h * heads.width + j) = 1.0;
        }
    }
    return v;
}

constexpr float kProbability = 0.25F;

class AttentionDropoutContract : public AttentionContract {
   protected:
    const AttentionProblem problem_{.queries = {64, 33, 17, 50},
                                    .keys = {64, 20, 41, 64},
                                    .heads = {.heads = 2, .width = 64},
                                    .dropout = {.probability = kProbability, .site = 21}};
    const AttentionProblem longer_{.queries = {128, 100, 0, 17},
                                   .keys = {128, 90, 3, 77},
                                   .heads = {.heads = 2, .width = 128},
                                   .dropout = {.probability = kProbability, .site = 21}};

    AttentionOperands probing(ContractRun& run, const AttentionProblem& problem) {
        const std::int64_t columns = problem.heads.heads * problem.heads.width;
        return operands(run, problem, normal(total(problem.queries), columns, 0.5),
                        normal(total(problem.keys), columns, 0.5), identity_values(problem.keys, problem.heads));
    }

    // The probabilities after dropout, of all problems on the same key.
    std::vector<HostMatrix> probabilities(const std::vector<AttentionProblem>& problems, std::uint64_t key) {
        ContractRun run(backends(), key);
        std::vector<AttentionOperands> in;
        std::vector<AttentionOutputs> out;
        for (const AttentionProblem& problem : problems) {
            in.push_back(probing(run, problem));
            out.push_back(results(run, problem));
        }
        run.run([&](Backend& backend, const ContractPlace& at) {
            for (std::size_t i = 0; i < in.size(); ++i) {
                backend.attention_forward(at(out[i].y), at(out[i].stats), in[i].operation(at));
            }
        });
        std::vector<HostMatrix> found;
        for (const AttentionOutputs& result : out) found.push_back(run.got(result.y));
        return found;
    }
};

TEST_P(AttentionDropoutContract, DropsTheShareAskedForAndScalesTheRest) {
    AttentionProblem undropped = problem_;
    undropped.dropout = {};
    ContractRun run(backends());
    AttentionOperands in = probing(run, problem_);
    const AttentionOutputs dropped = results(run, problem_);
    const AttentionOutputs whole = results(run, problem_);
    run.run([&](Backend& backend, const ContractPlace& at) {
        Attention operation = in.operation(at);
        backend.attention_forward(at(dropped.y), at(dropped.stats), operation);
        operation.dropout = {};
        backend.attention_forward(at(whole.y), at(whole.stats), operation);
    });
    const HostMatrix kept = run.got(dropped.y);
    const HostMatrix all = run.got(whole.y);
    double pairs = 0.0;
    double zeros = 0.0;
    const Tolerance tolerance{.type = type(), .length = 128, .intermediate_roundings = 2.0};
    for (std::int64_t i = 0; i < kept.elements(); ++i) {
        if (all[i] == 0.0) continue;  // beyond the sequence
        pairs += 1.0;
        zeros += kept[i] == 0.0 ? 1.0 : 0.0;
        const double wanted = kept[i] == 0.0 ? 0.0 : dropout_scale(kProbability) * all[i];
        Tolerance own = tolerance;
        own.magnitude = all[i];
        ASSERT_NEAR(kept[i], wanted, own.allowed(wanted)) << i;
    }
    EXPECT_EQ(pairs, 2.0 * (64 * 64 + 33 * 20 + 17 * 41 + 50 * 64));
    EXPECT_NEAR(zeros, pairs * kProbability, 5.0 * std::sqrt(pairs * kProbability * (1.0 - kProbability)));
    // They are of the probabilities before dropout.
    EXPECT_TRUE(close(run.got(dropped.stats), run.got(whole.stats), {.length = 128, .magnitude = 10.0}));
}

TEST_P(AttentionDropoutContract, TheMaskDependsOnKeyAndSiteOnly) {
    AttentionProblem other_site = problem_;
    other_site.dropout.site = 22;
    const std::vector<HostMatrix> first = probabilities({problem_, problem_, other_site}, 1);
    const std::vector<HostMatrix> second = probabilities({problem_}, 2);
    EXPECT_TRUE(same_zeros(first[0], first[1]));  // q and k differ
    EXPECT_FALSE(same_zeros(first[0], first[2]));
    EXPECT_FALSE(same_zeros(first[0], second[0]));
    const auto first_row = [](const HostMatrix& matrix, std::int64_t head) {
        HostMatrix row(1, 64);
        for (std::int64_t c = 0; c < 64; ++c) row[c] = matrix(0, head * 64 + c);
        return row;
    };
    EXPECT_FALSE(same_zeros(first_row(first[0], 0), first_row(first[0], 1)));  // every head has its own
}

// Kernels of different kinds may be chosen by how operands lie; passes that lie differently still agree.
TEST_P(AttentionDropoutContract, TheMaskDoesNotDependOnTheLayout) {
    for (AttentionProblem problem : {problem_, longer_}) {
        std::vector<AttentionProblem> problems;
        for (const Layout layout : {Layout::kPacked, Layout::kStrided, Layout::kAlignedSlice}) {
            problem.layout = layout;
            problems.push_back(problem);
        }
        const std::vector<HostMatrix> found = probabilities(problems, 7);
        EXPECT_TRUE(same_zeros(found[0], found[1]));
        EXPECT_TRUE(same_zeros(found[0], found[2]));
    }
}

// The mask is read off a forward pass and given to the reference's backward pass.
TEST_P(AttentionDropoutContract, BackwardRepeatsTheForwardMask) {
    std::vector<AttentionProblem> problems{problem_, longer_, problem_, longer_};
    for (std::size_t i = 2; i < 4; ++i) {
        problems[i].causal = Causal::kYes;
        problems[i].keys = problems[i].queries;
    }
    for (const AttentionProblem& problem : problems) {
        SCOPED_TRACE(told(problem));
        const std::int64_t queries = total(problem.queries);
        const std::int64_t columns = problem.heads.heads * problem.heads.width;
        const std::int64_t length = problem.heads.width + longest(problem.keys);
        const HostMatrix mask = probabilities({problem}, 42)[0];
        const HostMatrix q_begin = offsets_of(problem.queries);
        const HostMatrix kv_begin = offsets_of(problem.keys);

        ContractRun run(backends(), 42);
        const AttentionOperands in = operands(run, problem);
        const AttentionOutputs out = results(run, problem);
        const ContractOperand dy = run.input(type(), normal(queries, columns));
        run.run([&](Backend& backend, const ContractPlace& at) { forward_and_backward(backend, at, in, out, dy); });
        const AttentionFactor factor = [&](std::int64_t row, std::int64_t head, std::int64_t key) {
            std::int64_t sequence = 0;
            while (q_begin[sequence + 1] <= static_cast<double>(row)) ++sequence;
            const std::int64_t column = key - static_cast<std::int64_t>(kv_begin[sequence]);
            return mask(row, head * problem.heads.width + column) == 0.0 ? 0.0 : dropout_scale(kProbability);
        };
        const AttentionValues values = values_of(run, in, factor);
        const AttentionResult result = attend(values);
        const AttentionGradients gradients = attention_gradients(values, run.wanted(dy), result.stats);
        const AttentionMagnitudes magnitudes = attention_magnitudes(values, run.wanted(dy));
        EXPECT_TRUE(close(run.got(out.y), result.y, magnitudes.y, tolerance(length, 1.0)));
        EXPECT_TRUE(close(run.got(out.dv), gradients.dv, magnitudes.dv, tolerance(length, 1.0)));
        EXPECT_TRUE(close(run.got(out.dq), gradients.dq, magnitudes.dq, tolerance(length, 3.0)));
        EXPECT_TRUE(close(run.got(out.dk), gradients.dk, magnitudes.dk, tolerance(length, 3.0)));
    }
}

// Attention is linear in v, so <dy, y> = <dv, v> whatever was dropped.
TEST_P(AttentionDropoutContract, TheGradientOfVIsTheTransposeOfTheForwardPass) {
    ContractRun run(backends());
    const AttentionOperands in = operands(run, problem_);
    const AttentionOutputs out = results(run, problem_);
    const ContractOperand dy = run.input(type(), normal(total(problem_.queries), 128));
    run.run([&](Backend& backend, const ContractPlace& at) { forward_and_backward(backend, at, in, out, dy); });
    const auto inner = [](const HostMatrix& a, const HostMatrix& b) {
        double sum = 0.0;
        for (std::int64_t i = 0; i < a.elements(); ++i) sum += a[i] * b[i];
        return sum;
    };
    const double forward = inner(run.got(dy), run.got(out.y));
    const double backward = inner(run.got(out.dv), run.got(in.v));
    // Independent roundings of y, dv and the probabilities: about u times the root of the sum of squares.
    const double spread = std::sqrt(inner(run.got(out.y), run.got(out.y)) + inner(run.got(out.dv), run.got(out.dv)));
    EXPECT_NEAR(forward, backward, 16.0 * unit_roundoff(type()) * spread);
}

INSTANTIATE_TEST_SUITE_P(Backends, AttentionDropoutContract, testing::ValuesIn(contract_cases()), case_name);

}  // namespace
}  // namespace duologue
