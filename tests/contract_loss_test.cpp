// Contract of the cross-entropy and of the sums.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "support/contract.h"

namespace duologue {
namespace {

struct Shape {
    std::int64_t rows = 0;
    std::int64_t columns = 0;
};

const std::vector<Shape> kShapes{{0, 8},    {1, 1},    {1, 2},   {2, 3},    {17, 7},   {3, 64},
                                 {33, 100}, {100, 33}, {7, 257}, {64, 512}, {5, 16001}};

class LossContract : public ContractTest {
   protected:
    // Every fifth row is not counted.
    HostMatrix targets(const Shape& shape) {
        HostMatrix result = indices(shape.rows, shape.columns);
        for (std::int64_t r = 3; r < shape.rows; r += 5) result[r] = -1.0;
        return result;
    }

    void expect_loss(const Shape& shape, const HostMatrix& values, const HostMatrix& wanted, float smoothing) {
        SCOPED_TRACE(fmt::format("N {} V {} smoothing {}", shape.rows, shape.columns, smoothing));
        ContractRun run(backends());
        const ContractOperand logits = run.input(type(), values);
        const ContractOperand gradient = run.input_output(type(), values);
        const ContractOperand target = run.input(DataType::kI32, wanted);
        const ContractOperand losses = run.output(DataType::kF32, 1, shape.rows);
        const ContractOperand again = run.output(DataType::kF32, 1, shape.rows);
        run.run([&](Backend& backend, const ContractPlace& at) {
            backend.cross_entropy(at(losses), at(logits), at(target), smoothing, LossGradient::kNone);
            backend.cross_entropy(at(again), at(gradient), at(target), smoothing, LossGradient::kInPlace);
        });
        // Logits and their log-sum-exp carry the magnitude of the logits; a probability has their error relatively.
        const double largest = largest_magnitude(values) + std::log(static_cast<double>(shape.columns) + 1.0);
        EXPECT_TRUE(run.matches(losses, {.length = shape.columns, .magnitude = largest}));
        EXPECT_TRUE(same(run.got(losses), run.got(again)));
        HostMatrix magnitudes = run.wanted(gradient);
        for (std::int64_t i = 0; i < magnitudes.elements(); ++i) {
            const bool is_target = wanted[i / shape.columns] == static_cast<double>(i % shape.columns);
            const double subtracted = smoothing / static_cast<double>(shape.columns) + (is_target ? 1.0 : 0.0);
            magnitudes[i] = (std::abs(magnitudes[i]) + subtracted) * (1.0 + largest);
        }
        EXPECT_TRUE(run.matches(gradient, magnitudes, {.type = type(), .length = shape.columns}));
        expect_rows_sum_to_nothing(run.got(gradient));
    }

    // p and the target distribution both sum to 1.
    void expect_rows_sum_to_nothing(const HostMatrix& gradient) {
        for (std::int64_t r = 0; r < gradient.rows(); ++r) {
            double sum = 0.0;
            double magnitude = 0.0;
            for (std::int64_t c = 0; c < gradient.columns(); ++c) {
                sum += gradient(r, c);
                magnitude += std::abs(gradient(r, c));
            }
            EXPECT_LE(std::abs(sum), unit_roundoff(type()) * magnitude + 2e-5) << "row " << r;
        }
    }
};

TEST_P(LossContract, LossAndGradientAreThoseOfTheReference) {
    for (const Shape& shape : kShapes) {
        for (const float smoothing : {0.0F, 0.1F, 1.0F}) {
            expect_loss(shape, rounded(normal(shape.rows, shape.columns, 3.0), type()), targets(shape), smoothing);
        }
    }
}

TEST_P(LossContract, RandomShapesAndSmoothing) {
    for (int i = 0; i < 20; ++i) {
        const Shape shape{.rows = random_size(100), .columns = random_size(2000)};
        const auto smoothing = static_cast<float>(random().uniform());
        expect_loss(shape, rounded(normal(shape.rows, shape.columns, 3.0), type()), targets(shape), smoothing);
    }
}

TEST_P(LossContract, ExtremeLogitsStayFinite) {
    for (const Shape& shape : kShapes) {
        HostMatrix values = normal(shape.rows, shape.columns);
        for (std::int64_t i = 0; i < values.elements(); ++i) values[i] = values[i] < 0.0 ? -1e4 : 1e4;
        values = rounded(values, type());
        for (const float smoothing : {0.0F, 0.1F}) expect_loss(shape, values, targets(shape), smoothing);
    }
}

TEST_P(LossContract, UniformLogitsCostTheLogarithmOfTheVocabulary) {
    const Shape shape{.rows = 6, .columns = 1000};
    ContractRun run(backends());
    const ContractOperand logits = run.input(type(), filled(shape.rows, shape.columns, -7.5));
    const ContractOperand target = run.input(DataType::kI32, indices(shape.rows, shape.columns));
    const ContractOperand losses = run.output(DataType::kF32, 1, shape.rows);
    run.run([&](Backend& backend, const ContractPlace& at) {
        backend.cross_entropy(at(losses), at(logits), at(target), 0.1F, LossGradient::kNone);
    });
    EXPECT_TRUE(close(run.got(losses), filled(1, shape.rows, std::log(1000.0)), {.length = 1000, .magnitude = 8.0}));
}

TEST_P(LossContract, RowsThatAreNotCountedGiveZeroWhateverTheyHold) {
    ContractRun run(backends());
    const ContractOperand logits = run.input_output(type(), filled(3, 100, std::numeric_limits<double>::infinity()));
    const ContractOperand target = run.input(DataType::kI32, filled(1, 3, -1.0));
    const ContractOperand losses = run.output(DataType::kF32, 1, 3);
    run.run([&](Backend& backend, const ContractPlace& at) {
        backend.cross_entropy(at(losses), at(logits), at(target), 0.1F, LossGradient::kInPlace);
    });
    EXPECT_TRUE(same(run.got(losses), HostMatrix(1, 3)));
    EXPECT_TRUE(same(run.got(logits), HostMatrix(3, 100)));
}

// More of them than a thread takes at once, at the row's beginning and in between.
TEST_P(LossContract, LogitsOfMinusInfinityHaveNoProbability) {
    for (const std::int64_t columns : {8, 100, 20000, 20001}) {
        SCOPED_TRACE(columns);
        HostMatrix values = rounded(normal(3, columns), type());
        for (std::int64_t r = 0; r < 3; ++r) {
            for (std::int64_t c = 0; c + 1 < columns; ++c) {
                if (c < columns * r / 2 || c % 7 == 3) values(r, c) = -std::numeric_limits<double>::infinity();
            }
        }
        ContractRun run(backends());
        const ContractOperand logits = run.input_output(type(), values);
        const ContractOperand target = run.input(DataType::kI32, filled(1, 3, static_cast<double>(columns - 1)));
        const ContractOperand losses = run.output(DataType::kF32, 1, 3);
        run.run([&](Backend& backend, const ContractPlace& at) {
            backend.cross_entropy(at(losses), at(logits), at(target), 0.1F, LossGradient::kInPlace);
        });
        EXPECT_TRUE(same(run.got(losses), filled(1, 3, std::numeric_limits<double>::infinity())));
        EXPECT_TRUE(run.matches(logits, {.type = type(), .length = columns, .magnitude = 10.0}));
    }
}

// A step with such a loss has to be noticed and skipped.
TEST_P(LossContract, ANanLogitGivesANanLoss) {
    HostMatrix values = normal(2, 300);
    values(1, 123) = std::numeric_limits<double>::quiet_NaN();
    ContractRun run(backends());
    const ContractOperand logits = run.input(type(), values);
    const ContractOperand target = run.input(DataType::kI32, filled(1, 2, 5.0));
    const ContractOperand losses = run.output(DataType::kF32, 1, 2);
    run.run([&](Backend& backend, const ContractPlace& at) {
        backend.cross_entropy(at(losses), at(logits), at(target), 0.1F, LossGradient::kNone);
    });
    EXPECT_TRUE(std::isfinite(run.got(losses)[0]));
    EXPECT_TRUE(std::isnan(run.got(losses)[1]));
}

using ReductionContract = ContractTest;

const std::vector<std::int64_t> kLengths{0, 1, 2, 7, 33, 257, 1000, 65537};

TEST_P(ReductionContract, SumsOfExactValuesAreExact) {
    for (const std::int64_t length : kLengths) {
        SCOPED_TRACE(length);
        ContractRun run(backends());
        const ContractOperand x = run.input(DataType::kF32, grid(1, length));
        std::vector<ContractOperand> results;
        for (int i = 0; i < 2; ++i) results.push_back(run.output(DataType::kF32, 1, 1));
        for (int i = 0; i < 2; ++i) results.push_back(run.input_output(DataType::kF32, filled(1, 1, 0.375)));
        run.run([&](Backend& backend, const ContractPlace& at) {
            backend.sum(at(results[0]), at(x), Write::kOverwrite);
            backend.sum_squares(at(results[1]), at(x), Write::kOverwrite);
            backend.sum(at(results[2]), at(x), Write::kAccumulate);
            backend.sum_squares(at(results[3]), at(x), Write::kAccumulate);
        });
        for (const ContractOperand& result : results) EXPECT_TRUE(run.matches_exactly(result));
    }
}

TEST_P(ReductionContract, SumsOfNormalValuesAreAsGoodAsF32Sums) {
    for (const std::int64_t length : kLengths) {
        SCOPED_TRACE(length);
        ContractRun run(backends());
        const ContractOperand x = run.input(DataType::kF32, normal(1, length));
        const ContractOperand sum = run.output(DataType::kF32, 1, 1);
        const ContractOperand squares = run.output(DataType::kF32, 1, 1);
        run.run([&](Backend& backend, const ContractPlace& at) {
            backend.sum(at(sum), at(x), Write::kOverwrite);
            backend.sum_squares(at(squares), at(x), Write::kOverwrite);
        });
        // Partial sums of independent values are of the size of the root of the length.
        const double root = std::sqrt(static_cast<double>(length));
        EXPECT_TRUE(run.matches(sum, {.length = length, .magnitude = 1.0 + root}));
        EXPECT_TRUE(run.matches(squares, {.length = length, .magnitude = root * root}));
    }
}

TEST_P(ReductionContract, OneBadElementMakesTheSumOfSquaresNotFinite) {
    for (const double bad : {std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN(), 1e30}) {
        HostMatrix values = normal(1, 1000);
        values[777] = bad;
        ContractRun run(backends());
        const ContractOperand x = run.input(DataType::kF32, values);
        const ContractOperand squares = run.output(DataType::kF32, 1, 1);
        run.run([&](Backend& backend, const ContractPlace& at) {
            backend.sum_squares(at(squares), at(x), Write::kOverwrite);
        });
        EXPECT_FALSE(std::isfinite(run.got(squares)[0])) << bad;
    }
}

INSTANTIATE_TEST_SUITE_P(Backends, LossContract, testing::ValuesIn(contract_cases()), case_name);
INSTANTIATE_TEST_SUITE_P(Backends, ReductionContract, testing::ValuesIn(contract_cases()), case_name);

}  // namespace
}  // namespace duologue
