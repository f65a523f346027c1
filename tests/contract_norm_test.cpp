// Contract of the residual layer norm, forward and backward.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "support/contract.h"

namespace duologue {
namespace {

struct Shape {
    std::int64_t rows = 0;
    std::int64_t columns = 0;
};

const std::vector<Shape> kShapes{{0, 64},  {1, 1},    {1, 2},    {2, 3},    {17, 7},   {3, 64},   {33, 100}, {100, 33},
                                 {7, 257}, {257, 17}, {64, 512}, {5, 1024}, {9, 2056}, {2, 2999}, {150, 520}};
constexpr float kEpsilon = 1e-5F;

class NormContract : public ContractTest {
   protected:
    // Where the forward pass writes `sum`.
    enum class SumIn : std::uint8_t { kItsOwn, kX, kDelta };

    // For every y the sum of the absolute values that it comes from: the distance to the mean, scaled, and beta.
    static HostMatrix forward_magnitudes(const HostMatrix& sum, const HostMatrix& gamma, const HostMatrix& beta) {
        const HostMatrix rstd = statistics(sum).second;
        HostMatrix result(sum.rows(), sum.columns());
        for (std::int64_t r = 0; r < sum.rows(); ++r) {
            double mean_size = 0.0;
            for (std::int64_t c = 0; c < sum.columns(); ++c) {
                mean_size += std::abs(sum(r, c)) / static_cast<double>(sum.columns());
            }
            for (std::int64_t c = 0; c < sum.columns(); ++c) {
                result(r, c) = (std::abs(sum(r, c)) + mean_size) * rstd[r] * std::abs(gamma[c]) + std::abs(beta[c]);
            }
        }
        return result;
    }

    struct BackwardMagnitudes {
        HostMatrix dx;
        HostMatrix dgamma;
        HostMatrix dbeta;
    };

    // As above for the gradients: rstd (|g| + mean |g| + |h| mean |g h|) with g = dy gamma, and sums over rows.
    static BackwardMagnitudes backward_magnitudes(const HostMatrix& dy, const HostMatrix& sum,
                                                  const HostMatrix& gamma) {
        const auto [mean, rstd] = statistics(sum);
        const auto width = static_cast<double>(sum.columns());
        BackwardMagnitudes result{.dx = HostMatrix(sum.rows(), sum.columns()),
                                  .dgamma = HostMatrix(1, sum.columns()),
                                  .dbeta = HostMatrix(1, sum.columns())};
        for (std::int64_t r = 0; r < sum.rows(); ++r) {
            const auto g = [&](std::int64_t c) { return std::abs(dy(r, c) * gamma[c]); };
            const auto h = [&](std::int64_t c) { return (std::abs(sum(r, c)) + std::abs(mean[r])) * rstd[r]; };
            double mean_g = 0.0;
            double mean_gh = 0.0;
            for (std::int64_t c = 0; c < sum.columns(); ++c) {
                mean_g += g(c) / width;
                mean_gh += g(c) * h(c) / width;
                result.dgamma[c] += std::abs(dy(r, c)) * h(c);
                result.dbeta[c] += std::abs(dy(r, c));
            }
            for (std::int64_t c = 0; c < sum.columns(); ++c) {
                result.dx(r, c) = rstd[r] * (g(c) + mean_g + h(c) * mean_gh);
            }
        }
        return result;
    }

    static HostMatrix sum_of_sizes(const HostMatrix& a, const HostMatrix& b) {
        HostMatrix result = a;
        for (std::int64_t i = 0; i < a.elements(); ++i) result[i] = std::abs(a[i]) + std::abs(b[i]);
        return result;
    }

    // mean and rstd of the rows as f32.
    static std::pair<HostMatrix, HostMatrix> statistics(const HostMatrix& sum) {
        HostMatrix mean(1, sum.rows());
        HostMatrix rstd(1, sum.rows());
        const auto width = static_cast<double>(sum.columns());
        for (std::int64_t r = 0; r < sum.rows(); ++r) {
            double variance = 0.0;
            for (std::int64_t c = 0; c < sum.columns(); ++c) mean[r] += sum(r, c) / width;
            for (std::int64_t c = 0; c < sum.columns(); ++c) variance += std::pow(sum(r, c) - mean[r], 2) / width;
            rstd[r] = 1.0 / std::sqrt(variance + static_cast<double>(kEpsilon));
        }
        return {mean, rstd};
    }

    void expect_forward(const Shape& shape, const Dropout& dropout, SumIn sum_in) {
        SCOPED_TRACE(fmt::format("N {} C {} dropout {}", shape.rows, shape.columns, dropout.probability));
        ContractRun run(backends());
        const HostMatrix gammas = normal(1, shape.columns);
        const HostMatrix betas = normal(1, shape.columns);
        const HostMatrix values = normal(shape.rows, shape.columns, 2.0);
        const HostMatrix deltas = normal(shape.rows, shape.columns);
        const ContractOperand x = sum_in == SumIn::kX ? run.input_output(type(), values) : run.input(type(), values);
        const ContractOperand delta =
            sum_in == SumIn::kDelta ? run.input_output(type(), deltas) : run.input(type(), deltas);
        const ContractOperand own = run.output(type(), shape.rows, shape.columns);
        const ContractOperand sum = sum_in == SumIn::kX ? x : sum_in == SumIn::kDelta ? delta : own;
        const ContractOperand gamma = run.input(type(), gammas);
        const ContractOperand beta = run.input(type(), betas);
        const ContractOperand y = run.output(type(), shape.rows, shape.columns);
        const ContractOperand mean = run.output(DataType::kF32, 1, shape.rows);
        const ContractOperand rstd = run.output(DataType::kF32, 1, shape.rows);
        run.run([&](Backend& backend, const ContractPlace& at) {
            backend.residual_norm_forward(at(sum), at(y), at(mean), at(rstd),
                                          {.x = at(x),
                                           .delta = at(delta),
                                           .dropout = dropout,
                                           .gamma = at(gamma),
                                           .beta = at(beta),
                                           .epsilon = kEpsilon});
        });
        const double largest = largest_magnitude(run.wanted(sum));
        EXPECT_TRUE(run.matches(sum, {.type = type(), .magnitude = largest}));
        // A back end may take the statistics before or after the sum is rounded to the activation type.
        const double roundings = type() == DataType::kBf16 ? 1.0 : 0.0;
        const double coarse = roundings * unit_roundoff(DataType::kBf16) / unit_roundoff(DataType::kF32);
        const Tolerance statistic{.length = shape.columns, .magnitude = largest, .intermediate_roundings = coarse};
        EXPECT_TRUE(run.matches(mean, statistic));
        const HostMatrix rstds = run.wanted(rstd);
        HostMatrix rstd_magnitudes = rstds;
        for (std::int64_t r = 0; r < shape.rows; ++r) rstd_magnitudes[r] *= std::max(1.0, largest * rstds[r]);
        EXPECT_TRUE(run.matches(rstd, rstd_magnitudes, statistic));
        EXPECT_TRUE(run.matches(y, forward_magnitudes(run.wanted(sum), gammas, betas),
                                {.type = type(), .length = shape.columns, .intermediate_roundings = roundings}));
    }

    void expect_backward(const Shape& shape, const Dropout& dropout, SumIn dx_in) {
        SCOPED_TRACE(fmt::format("N {} C {} dropout {}", shape.rows, shape.columns, dropout.probability));
        ContractRun run(backends());
        const HostMatrix sums = rounded(normal(shape.rows, shape.columns), type());
        const auto [means, rstds] = statistics(sums);
        const HostMatrix gammas = normal(1, shape.columns);
        const HostMatrix dys = normal(shape.rows, shape.columns);
        const HostMatrix branches = normal(shape.rows, shape.columns);
        const HostMatrix aboves = normal(shape.rows, shape.columns);
        const HostMatrix sums_before = normal(1, shape.columns);
        const ContractOperand dy = dx_in == SumIn::kX ? run.input_output(type(), dys) : run.input(type(), dys);
        const ContractOperand above =
            dx_in == SumIn::kDelta ? run.input_output(type(), aboves) : run.input(type(), aboves);
        const ContractOperand own = run.output(type(), shape.rows, shape.columns);
        const ContractOperand dx = dx_in == SumIn::kX ? dy : dx_in == SumIn::kDelta ? above : own;
        const ContractOperand sum = run.input(type(), sums);
        const ContractOperand mean = run.input(DataType::kF32, means);
        const ContractOperand rstd = run.input(DataType::kF32, rstds);
        const ContractOperand gamma = run.input(type(), gammas);
        // With dx in the place of an input ddelta is in that of one, too.
        const bool in_place = dx_in != SumIn::kItsOwn;
        const ContractOperand branch = in_place ? run.input_output(type(), branches) : run.input(type(), branches);
        const ContractOperand ddelta = in_place ? branch : run.output(type(), shape.rows, shape.columns);
        const ContractOperand dgamma = run.input_output(DataType::kF32, sums_before);
        const ContractOperand dbeta = run.input_output(DataType::kF32, sums_before);
        const ContractOperand ddelta_sum = run.input_output(DataType::kF32, sums_before);
        run.run([&](Backend& backend, const ContractPlace& at) {
            backend.residual_norm_backward({.dx = at(dx),
                                            .ddelta = at(ddelta),
                                            .ddelta_sum = at(ddelta_sum),
                                            .dgamma = at(dgamma),
                                            .dbeta = at(dbeta)},
                                           {.dy = at(dy),
                                            .dy_branch = at(branch),
                                            .dsum_above = at(above),
                                            .sum = at(sum),
                                            .mean = at(mean),
                                            .rstd = at(rstd),
                                            .gamma = at(gamma),
                                            .dropout = dropout});
        });
        const BackwardMagnitudes magnitudes = backward_magnitudes(sum_of_sizes(dys, branches), sums, gammas);
        const Tolerance tolerance{.type = type(), .length = shape.columns};
        const HostMatrix dsum_magnitudes = sum_of_sizes(magnitudes.dx, aboves);
        EXPECT_TRUE(run.matches(dx, dsum_magnitudes, tolerance));
        EXPECT_TRUE(run.matches(ddelta, dsum_magnitudes, tolerance));
        EXPECT_TRUE(same_zeros(run.got(ddelta), run.wanted(ddelta)));
        EXPECT_TRUE(run.matches(dgamma, sum_of_sizes(magnitudes.dgamma, sums_before), {.length = shape.rows}));
        EXPECT_TRUE(run.matches(dbeta, sum_of_sizes(magnitudes.dbeta, sums_before), {.length = shape.rows}));
        // A back end may add up ddelta before or after it is rounded to the activation type.
        EXPECT_TRUE(run.matches(ddelta_sum, sum_of_sizes(column_sums(dsum_magnitudes, dropout), sums_before),
                                {.type = type(), .length = shape.rows * shape.columns}));
    }

    // Of the sizes of rows that dropout may have made larger.
    static HostMatrix column_sums(const HostMatrix& sizes, const Dropout& dropout) {
        HostMatrix result(1, sizes.columns());
        for (std::int64_t r = 0; r < sizes.rows(); ++r) {
            for (std::int64_t c = 0; c < sizes.columns(); ++c) {
                result[c] += sizes(r, c) / (1.0 - static_cast<double>(dropout.probability));
            }
        }
        return result;
    }
};

TEST_P(NormContract, ForwardAddsThenNormalises) {
    for (const Shape& shape : kShapes) expect_forward(shape, {}, SumIn::kItsOwn);
}

TEST_P(NormContract, ForwardDropsOfDeltaOnly) {
    for (const Shape& shape : kShapes) expect_forward(shape, {.probability = 0.3F, .site = 11}, SumIn::kItsOwn);
}

TEST_P(NormContract, TheSumMayBeWrittenOverXOrDelta) {
    for (const Shape& shape : kShapes) {
        expect_forward(shape, {.probability = 0.1F, .site = 3}, SumIn::kX);
        expect_forward(shape, {.probability = 0.1F, .site = 3}, SumIn::kDelta);
    }
}

TEST_P(NormContract, TheMaskIsThatOfDropoutKeeps) {
    for (const Shape& shape : kShapes) {
        SCOPED_TRACE(fmt::format("N {} C {}", shape.rows, shape.columns));
        ContractRun run(backends(), 0x0123456789abcdefULL);
        const ContractOperand x = run.input(type(), HostMatrix(shape.rows, shape.columns));
        const ContractOperand delta = run.input(type(), grid(shape.rows, shape.columns));
        const ContractOperand gamma = run.input(type(), grid(1, shape.columns));
        const ContractOperand sum = run.output(type(), shape.rows, shape.columns);
        const ContractOperand y = run.output(type(), shape.rows, shape.columns);
        run.run([&](Backend& backend, const ContractPlace& at) {
            backend.residual_norm_forward(at(sum), at(y), {}, {},
                                          {.x = at(x),
                                           .delta = at(delta),
                                           .dropout = {.probability = 0.5F, .site = 1ULL << 40},
                                           .gamma = at(gamma),
                                           .beta = at(gamma)});
        });
        EXPECT_TRUE(run.matches_exactly(sum));  // the scale of 0.5 is exactly 2
    }
}

TEST_P(NormContract, WithoutDeltaXItselfIsNormalised) {
    for (const Shape& shape : kShapes) {
        SCOPED_TRACE(fmt::format("N {} C {}", shape.rows, shape.columns));
        ContractRun run(backends());
        const HostMatrix values = rounded(normal(shape.rows, shape.columns), type());
        const HostMatrix gammas = normal(1, shape.columns);
        const HostMatrix betas = normal(1, shape.columns);
        const ContractOperand x = run.input(type(), values);
        const ContractOperand gamma = run.input(type(), gammas);
        const ContractOperand beta = run.input(type(), betas);
        const ContractOperand y = run.output(type(), shape.rows, shape.columns);
        run.run([&](Backend& backend, const ContractPlace& at) {
            backend.residual_norm_forward({}, at(y), {}, {}, {.x = at(x), .gamma = at(gamma), .beta = at(beta)});
        });
        EXPECT_TRUE(
            run.matches(y, forward_magnitudes(values, gammas, betas), {.type = type(), .length = shape.columns}));
    }
}

TEST_P(NormContract, AConstantRowBecomesBeta) {
    ContractRun run(backends());
    const ContractOperand x = run.input(type(), filled(5, 64, 0.75));
    const HostMatrix betas = rounded(normal(1, 64), type());
    const ContractOperand gamma = run.input(type(), normal(1, 64));
    const ContractOperand beta = run.input(type(), betas);
    const ContractOperand y = run.output(type(), 5, 64);
    run.run([&](Backend& backend, const ContractPlace& at) {
        backend.residual_norm_forward({}, at(y), {}, {}, {.x = at(x), .gamma = at(gamma), .beta = at(beta)});
    });
    const HostMatrix got = run.got(y);
    for (std::int64_t i = 0; i < got.elements(); ++i) EXPECT_EQ(got[i], betas[i % 64]);
}

// Summing squares instead of squared distances would lose everything here.
TEST_P(NormContract, ALargeMeanLeavesTheVarianceIntact) {
    ContractRun run(backends());
    HostMatrix values = grid(9, 100);
    for (std::int64_t i = 0; i < values.elements(); ++i) values[i] = 256.0 + std::round(values[i]) * 2.0;
    const ContractOperand x = run.input(type(), values);
    const ContractOperand ones = run.input(type(), filled(1, 100, 1.0));
    const ContractOperand zeros = run.input(type(), HostMatrix(1, 100));
    const ContractOperand y = run.output(type(), 9, 100);
    const ContractOperand mean = run.output(DataType::kF32, 1, 9);
    const ContractOperand rstd = run.output(DataType::kF32, 1, 9);
    run.run([&](Backend& backend, const ContractPlace& at) {
        backend.residual_norm_forward({}, at(y), at(mean), at(rstd),
                                      {.x = at(x), .gamma = at(ones), .beta = at(zeros)});
    });
    // An error of one rounding of the mean, 256 u, changes a deviation; it changes the variance by its square.
    EXPECT_TRUE(run.matches(mean, {.length = 100, .magnitude = 256.0}));
    EXPECT_TRUE(run.matches(rstd, {.length = 100, .magnitude = 1.0}));
    EXPECT_TRUE(run.matches(y, {.type = type(), .length = 100, .magnitude = 256.0}));
}

TEST_P(NormContract, BackwardIsThatOfTheReference) {
    for (const Shape& shape : kShapes) {
        expect_backward(shape, {}, SumIn::kItsOwn);
        expect_backward(shape, {.probability = 0.3F, .site = 11}, SumIn::kItsOwn);
    }
}

TEST_P(NormContract, RandomShapesWithDropout) {
    for (std::uint64_t i = 0; i < 20; ++i) {
        const Shape shape{.rows = random_size(300), .columns = random_size(700)};
        const Dropout dropout{.probability = static_cast<float>(random().uniform() * 0.9), .site = i};
        expect_forward(shape, dropout, SumIn::kItsOwn);
        expect_backward(shape, dropout, SumIn::kItsOwn);
    }
}

TEST_P(NormContract, DxMayBeWrittenOverDyOrTheGradientFromAbove) {
    for (const Shape& shape : kShapes) {
        expect_backward(shape, {.probability = 0.1F, .site = 3}, SumIn::kX);
        expect_backward(shape, {.probability = 0.1F, .site = 3}, SumIn::kDelta);
    }
}

TEST_P(NormContract, BackwardWithoutDeltaAndWithoutAGradientFromAbove) {
    for (const Shape& shape : kShapes) {
        SCOPED_TRACE(fmt::format("N {} C {}", shape.rows, shape.columns));
        ContractRun run(backends());
        const HostMatrix sums = rounded(normal(shape.rows, shape.columns), type());
        const auto [means, rstds] = statistics(sums);
        const HostMatrix dys = normal(shape.rows, shape.columns);
        const HostMatrix gammas = normal(1, shape.columns);
        const ContractOperand dy = run.input(type(), dys);
        const ContractOperand sum = run.input(type(), sums);
        const ContractOperand mean = run.input(DataType::kF32, means);
        const ContractOperand rstd = run.input(DataType::kF32, rstds);
        const ContractOperand gamma = run.input(type(), gammas);
        const ContractOperand dx = run.output(type(), shape.rows, shape.columns);
        const ContractOperand dgamma = run.input_output(DataType::kF32, HostMatrix(1, shape.columns));
        const ContractOperand dbeta = run.input_output(DataType::kF32, HostMatrix(1, shape.columns));
        run.run([&](Backend& backend, const ContractPlace& at) {
            backend.residual_norm_backward(
                {.dx = at(dx), .dgamma = at(dgamma), .dbeta = at(dbeta)},
                {.dy = at(dy), .sum = at(sum), .mean = at(mean), .rstd = at(rstd), .gamma = at(gamma)});
        });
        const BackwardMagnitudes magnitudes = backward_magnitudes(dys, sums, gammas);
        EXPECT_TRUE(run.matches(dx, magnitudes.dx, {.type = type(), .length = shape.columns}));
        EXPECT_TRUE(run.matches(dgamma, magnitudes.dgamma, {.length = shape.rows}));
        EXPECT_TRUE(run.matches(dbeta, magnitudes.dbeta, {.length = shape.rows}));
    }
}

INSTANTIATE_TEST_SUITE_P(Backends, NormContract, testing::ValuesIn(contract_cases()), case_name);

}  // namespace
}  // namespace duologue
