// Contract of the embedding, of dropout and of the other element by element operations.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "support/contract.h"

namespace duologue {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Shape {
    std::int64_t rows = 0;
    std::int64_t columns = 0;
};

const std::vector<Shape> kShapes{{0, 8},    {1, 1},   {2, 3},    {17, 7},   {3, 64},
                                 {33, 100}, {7, 257}, {300, 33}, {64, 512}, {3, 1100}};

class EmbeddingContract : public ContractTest {
   protected:
    static constexpr std::int64_t kVocabulary = 101;
    static constexpr std::int64_t kPositions = 40;

    struct Inputs {
        ContractOperand tokens;
        ContractOperand positions;
        ContractOperand table;
        ContractOperand position_table;
        float scale = 1.0F;
        Dropout dropout = {};

        [[nodiscard]] Embedding operation(const ContractPlace& at) const {
            return {.tokens = at(tokens),
                    .positions = at(positions),
                    .table = at(table),
                    .position_table = at(position_table),
                    .scale = scale,
                    .dropout = dropout};
        }
    };

    Inputs inputs(ContractRun& run, const Shape& shape, float scale, const Dropout& dropout) {
        return {.tokens = run.input(DataType::kI32, indices(shape.rows, kVocabulary)),
                .positions = run.input(DataType::kI32, indices(shape.rows, kPositions)),
                .table = run.input(type(), grid(kVocabulary, shape.columns)),
                .position_table = run.input(type(), grid(kPositions, shape.columns)),
                .scale = scale,
                .dropout = dropout};
    }
};

TEST_P(EmbeddingContract, ForwardWithPowersOfTwoIsExact) {
    for (const Shape& shape : kShapes) {
        for (const float probability : {0.0F, 0.5F}) {
            SCOPED_TRACE(fmt::format("N {} C {} dropout {}", shape.rows, shape.columns, probability));
            ContractRun run(backends());
            const Inputs in = inputs(run, shape, 16.0F, {.probability = probability, .site = 5});
            const ContractOperand y = run.output(type(), shape.rows, shape.columns);
            run.run(
                [&](Backend& backend, const ContractPlace& at) { backend.embedding_forward(at(y), in.operation(at)); });
            EXPECT_TRUE(run.matches_exactly(y));
        }
    }
}

TEST_P(EmbeddingContract, ForwardWithAnyScaleAndTheMaskOfDropoutKeeps) {
    for (const Shape& shape : kShapes) {
        SCOPED_TRACE(fmt::format("N {} C {}", shape.rows, shape.columns));
        ContractRun run(backends());
        const Inputs in = inputs(run, shape, 22.627417F, {.probability = 0.1F, .site = 6});
        const ContractOperand y = run.output(type(), shape.rows, shape.columns);
        run.run([&](Backend& backend, const ContractPlace& at) { backend.embedding_forward(at(y), in.operation(at)); });
        EXPECT_TRUE(run.matches(y, {.type = type(), .magnitude = 22.627417 * 2.0 + 2.0}));
        EXPECT_TRUE(same_zeros(run.got(y), run.wanted(y)));
    }
}

TEST_P(EmbeddingContract, BackwardAddsEveryRowOfEveryToken) {
    for (const Shape& shape : kShapes) {
        for (const float probability : {0.0F, 0.5F}) {
            SCOPED_TRACE(fmt::format("N {} C {} dropout {}", shape.rows, shape.columns, probability));
            ContractRun run(backends());
            const Inputs in = inputs(run, shape, 16.0F, {.probability = probability, .site = 5});
            const ContractOperand dy = run.input(type(), grid(shape.rows, shape.columns));
            const ContractOperand dtable = run.input_output(DataType::kF32, grid(kVocabulary, shape.columns));
            const ContractOperand dpositions = run.input_output(DataType::kF32, grid(kPositions, shape.columns));
            const ContractOperand without = run.input_output(DataType::kF32, grid(kVocabulary, shape.columns));
            run.run([&](Backend& backend, const ContractPlace& at) {
                backend.embedding_backward(at(dtable), at(dpositions), at(dy), in.operation(at));
                backend.embedding_backward(at(without), {}, at(dy), in.operation(at));
            });
            EXPECT_TRUE(run.matches_exactly(dtable));
            EXPECT_TRUE(run.matches_exactly(dpositions));
            EXPECT_TRUE(run.matches_exactly(without));
        }
    }
}

TEST_P(EmbeddingContract, BackwardOfOneTokenManyTimesIsAsGoodAsF32Sums) {
    constexpr std::int64_t kRows = 1000;
    for (const std::int64_t columns : {33, 1032}) {
        SCOPED_TRACE(columns);
        ContractRun run(backends());
        Inputs in = inputs(run, {.rows = kRows, .columns = columns}, 5.6568542F, {.probability = 0.1F, .site = 9});
        in.tokens = run.input(DataType::kI32, filled(1, kRows, 17));
        in.positions = run.input(DataType::kI32, filled(1, kRows, kPositions - 1));
        const ContractOperand dy = run.input(type(), normal(kRows, columns));
        const ContractOperand dtable = run.input_output(DataType::kF32, HostMatrix(kVocabulary, columns));
        const ContractOperand dpositions = run.input_output(DataType::kF32, HostMatrix(kPositions, columns));
        run.run([&](Backend& backend, const ContractPlace& at) {
            backend.embedding_backward(at(dtable), at(dpositions), at(dy), in.operation(at));
        });
        // Partial sums of independent values are of the size of the root of their number.
        const Tolerance tolerance{.length = kRows, .magnitude = 5.7 * 1.2 * std::sqrt(kRows)};
        EXPECT_TRUE(run.matches(dtable, tolerance));
        EXPECT_TRUE(run.matches(dpositions, tolerance));
        EXPECT_TRUE(same_zeros(run.got(dtable), run.wanted(dtable)));
    }
}

using ElementwiseContract = ContractTest;

TEST_P(ElementwiseContract, AddIsRoundedOnceAndMayBeInPlace) {
    for (const Shape& shape : kShapes) {
        SCOPED_TRACE(fmt::format("{} x {}", shape.rows, shape.columns));
        ContractRun run(backends());
        const ContractOperand a = run.input(type(), normal(shape.rows, shape.columns));
        const ContractOperand b = run.input(type(), normal(shape.rows, shape.columns, 30.0));
        const ContractOperand y = run.output(type(), shape.rows, shape.columns);
        const ContractOperand left = run.input_output(type(), normal(shape.rows, shape.columns));
        const ContractOperand right = run.input_output(type(), normal(shape.rows, shape.columns));
        const ContractOperand twice = run.input_output(type(), normal(shape.rows, shape.columns));
        run.run([&](Backend& backend, const ContractPlace& at) {
            backend.add(at(y), at(a), at(b));
            backend.add(at(left), at(left), at(b));
            backend.add(at(right), at(a), at(right));
            backend.add(at(twice), at(twice), at(twice));
        });
        for (const ContractOperand& result : {y, left, right, twice}) EXPECT_TRUE(run.matches_exactly(result));
    }
}

TEST_P(ElementwiseContract, DropoutIsExactInMaskAndScaleAndMayBeInPlace) {
    for (const Shape& shape : kShapes) {
        for (const float probability : {0.0F, 0.1F, 0.5F, 0.9F}) {
            SCOPED_TRACE(fmt::format("{} x {} dropout {}", shape.rows, shape.columns, probability));
            ContractRun run(backends(), ~std::uint64_t{0});
            const ContractOperand x = run.input(type(), normal(shape.rows, shape.columns));
            const ContractOperand y = run.output(type(), shape.rows, shape.columns);
            const ContractOperand in_place = run.input_output(type(), normal(shape.rows, shape.columns));
            run.run([&](Backend& backend, const ContractPlace& at) {
                backend.dropout(at(y), at(x), {.probability = probability, .site = 77});
                backend.dropout(at(in_place), at(in_place), {.probability = probability, .site = ~0ULL});
            });
            EXPECT_TRUE(run.matches_exactly(y));
            EXPECT_TRUE(run.matches_exactly(in_place));
        }
    }
}

TEST_P(ElementwiseContract, EverySiteAndEveryKeyHasAMaskOfItsOwn) {
    ContractRun run(backends(), 1);
    const ContractOperand x = run.input(type(), filled(4, 100, 1.0));
    std::vector<ContractOperand> results;
    for (int i = 0; i < 4; ++i) results.push_back(run.output(type(), 4, 100));
    run.run([&](Backend& backend, const ContractPlace& at) {
        for (const std::uint64_t i : {0U, 1U, 2U, 3U}) {
            backend.set_random_key(i / 2);
            backend.dropout(at(results[i]), at(x), {.probability = 0.5F, .site = i % 2});
        }
    });
    for (std::size_t i = 0; i < results.size(); ++i) {
        EXPECT_TRUE(run.matches_exactly(results[i])) << i;
        for (std::size_t j = 0; j < i; ++j) EXPECT_FALSE(same(run.got(results[i]), run.got(results[j])));
    }
}

TEST_P(ElementwiseContract, CastRoundsToNearestEvenAndKeepsNanAndInfinity) {
    const std::vector<double> special{0.0,           -0.0,       1.0,     1.00390625, 1.01171875,
                                      -1.00390625,   1.00390636, 65504.0, kInfinity,  -kInfinity,
                                      3.4028235e38F, 1e-40,      -1e-40,  kNan};
    for (const std::int64_t length : {0, 1, 14, 15, 33, 257, 1000}) {
        SCOPED_TRACE(length);
        HostMatrix values = normal(1, length, 100.0);
        for (std::int64_t i = 0; i < std::min<std::int64_t>(length, 14); ++i) {
            values[length - 1 - i] = special[static_cast<std::size_t>(i)];
        }
        ContractRun run(backends());
        const ContractOperand x = run.input(type(), values);
        const ContractOperand f32 = run.output(DataType::kF32, 1, length);
        const ContractOperand bf16 = run.output(DataType::kBf16, 1, length);
        run.run([&](Backend& backend, const ContractPlace& at) {
            backend.cast(at(f32), at(x));
            backend.cast(at(bf16), at(x));
        });
        EXPECT_TRUE(run.matches_exactly(f32));
        EXPECT_TRUE(run.matches_exactly(bf16));
    }
}

INSTANTIATE_TEST_SUITE_P(Backends, EmbeddingContract, testing::ValuesIn(contract_cases()), case_name);
INSTANTIATE_TEST_SUITE_P(Backends, ElementwiseContract, testing::ValuesIn(contract_cases()), case_name);

}  // namespace
}  // namespace duologue
