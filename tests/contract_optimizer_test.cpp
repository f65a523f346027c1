// Contract of AdamW and of the memory operations.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "duologue/core/arena.h"
#include "support/contract.h"

namespace duologue {
namespace {

class OptimizerContract : public ContractTest {
   protected:
    struct State {
        ContractOperand values;
        ContractOperand weights;
        ContractOperand first;
        ContractOperand second;
        ContractOperand gradients;
        ContractOperand divisor;
        ContractOperand square_sum;

        [[nodiscard]] AdamW operation(const ContractPlace& at) const {
            return {.values = at(values),
                    .weights = at(weights),
                    .first = at(first),
                    .second = at(second),
                    .gradients = at(gradients),
                    .divisor = at(divisor),
                    .square_sum = at(square_sum),
                    .learning_rate = 1e-2F,
                    .weight_decay = 0.1F};
        }
    };

    State state(ContractRun& run, std::int64_t length, double divisor, double square_sum) {
        HostMatrix second = normal(1, length);
        for (std::int64_t i = 0; i < length; ++i) second[i] *= second[i];
        const bool rounds = type() == DataType::kBf16;
        return {.values = run.input_output(DataType::kF32, normal(1, length)),
                .weights = rounds ? run.output(type(), 1, length) : ContractOperand{},
                .first = run.input_output(DataType::kF32, normal(1, length)),
                .second = run.input_output(DataType::kF32, second),
                .gradients = run.input(DataType::kF32, normal(1, length, 30.0)),
                .divisor = run.input(DataType::kF32, filled(1, 1, divisor)),
                .square_sum = run.input(DataType::kF32, filled(1, 1, square_sum))};
    }

    // A result is a sum of what was there and what is added.
    void expect_matching(const ContractRun& run, const State& in) {
        for (const ContractOperand& operand : {in.values, in.first, in.second}) {
            const HostMatrix before = run.before(operand);
            HostMatrix magnitudes = run.wanted(operand);
            for (std::int64_t i = 0; i < before.elements(); ++i) {
                magnitudes[i] = std::abs(before[i]) + std::abs(magnitudes[i] - before[i]);
            }
            EXPECT_TRUE(run.matches(operand, magnitudes, {}));
        }
        expect_weights(run, in, run.got(in.values));
    }

    // The weights are these values, rounded.
    void expect_weights(const ContractRun& run, const State& in, const HostMatrix& values) {
        if (type() != DataType::kBf16) return;
        EXPECT_TRUE(same(run.got(in.weights), rounded(values, type())));
    }
};

const std::vector<std::int64_t> kLengths{0, 1, 7, 33, 257, 10000};

TEST_P(OptimizerContract, StepsWithoutClipping) {
    for (const std::int64_t length : kLengths) {
        for (const std::int64_t step : {1, 2, 1000, 1000000}) {
            SCOPED_TRACE(testing::Message() << length << " at step " << step);
            ContractRun run(backends());
            const State in = state(run, length, 30.0, 1e6);
            run.run([&](Backend& backend, const ContractPlace& at) {
                AdamW operation = in.operation(at);
                operation.step = step;
                backend.adamw(operation);
            });
            expect_matching(run, in);
        }
    }
}

TEST_P(OptimizerContract, ClipsOnlyWhereTheNormIsLarger) {
    for (const float max_norm : {0.25F, 1.0F, 1e6F}) {  // the norm is sqrt(900) / 30 = 1
        for (const double square_sum : {900.0, 3600.0, 0.0}) {
            SCOPED_TRACE(testing::Message() << max_norm << " of squares " << square_sum);
            ContractRun run(backends());
            const State in = state(run, 257, 30.0, square_sum);
            run.run([&](Backend& backend, const ContractPlace& at) {
                AdamW operation = in.operation(at);
                operation.max_norm = max_norm;
                backend.adamw(operation);
            });
            expect_matching(run, in);
        }
    }
}

TEST_P(OptimizerContract, ZeroMomentsGiveAFirstStepOfTheLearningRate) {
    ContractRun run(backends());
    State in = state(run, 100, 1.0, 1.0);
    in.values = run.input_output(DataType::kF32, HostMatrix(1, 100));
    in.first = run.input_output(DataType::kF32, HostMatrix(1, 100));
    in.second = run.input_output(DataType::kF32, HostMatrix(1, 100));
    in.gradients = run.input(DataType::kF32, grid(1, 100));
    run.run([&](Backend& backend, const ContractPlace& at) { backend.adamw(in.operation(at)); });
    const HostMatrix got = run.got(in.values);
    const HostMatrix gradients = run.got(in.gradients);
    for (std::int64_t i = 0; i < 100; ++i) EXPECT_NEAR(got[i], gradients[i] > 0.0 ? -1e-2 : 1e-2, 1e-7);
}

TEST_P(OptimizerContract, AFiniteLossChangesNothingOfTheStep) {
    ContractRun run(backends());
    const State in = state(run, 257, 30.0, 900.0);
    const ContractOperand loss = run.input(DataType::kF32, filled(1, 1, -3.0));
    run.run([&](Backend& backend, const ContractPlace& at) {
        AdamW operation = in.operation(at);
        operation.loss = at(loss);
        backend.adamw(operation);
    });
    expect_matching(run, in);
}

TEST_P(OptimizerContract, EpsilonIsAddedToTheRoot) {
    for (const float epsilon : {1e-9F, 1e-3F, 0.5F}) {
        SCOPED_TRACE(epsilon);
        ContractRun run(backends());
        const State in = state(run, 257, 30.0, 900.0);
        run.run([&](Backend& backend, const ContractPlace& at) {
            AdamW operation = in.operation(at);
            operation.epsilon = epsilon;
            backend.adamw(operation);
        });
        expect_matching(run, in);
    }
}

// Words that never occurred: 0 / (sqrt(0) + epsilon).
TEST_P(OptimizerContract, ElementsThatNeverHadAGradientOnlyDecay) {
    const HostMatrix before = rounded(normal(1, 100), DataType::kF32);
    ContractRun run(backends());
    State in = state(run, 100, 30.0, 900.0);
    in.values = run.input_output(DataType::kF32, before);
    in.first = run.input_output(DataType::kF32, HostMatrix(1, 100));
    in.second = run.input_output(DataType::kF32, HostMatrix(1, 100));
    in.gradients = run.input(DataType::kF32, HostMatrix(1, 100));
    run.run([&](Backend& backend, const ContractPlace& at) { backend.adamw(in.operation(at)); });
    HostMatrix decayed = before;
    for (std::int64_t i = 0; i < 100; ++i) decayed[i] *= 1.0 - 1e-2 * 0.1;
    EXPECT_TRUE(close(run.got(in.values), decayed, before, {}));
    EXPECT_TRUE(same(run.got(in.first), HostMatrix(1, 100)));
    EXPECT_TRUE(same(run.got(in.second), HostMatrix(1, 100)));
}

TEST_P(OptimizerContract, AStepThatCannotBeTakenChangesNothing) {
    constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    const std::vector<std::array<double, 3>> cases{{30.0, kNan, 1.0},   {30.0, kInfinity, 1.0},   {0.0, 900.0, 1.0},
                                                   {-0.0, 900.0, 1.0},  {-1.0, 900.0, 1.0},       {kNan, 900.0, 1.0},
                                                   {30.0, 900.0, kNan}, {30.0, 900.0, -kInfinity}};
    for (const auto& [divisor, square_sum, loss_value] : cases) {
        for (const float max_norm : {0.0F, 1.0F}) {
            SCOPED_TRACE(testing::Message()
                         << "divisor " << divisor << " squares " << square_sum << " loss " << loss_value);
            const HostMatrix before = rounded(normal(1, 100), DataType::kF32);
            ContractRun run(backends());
            State in = state(run, 100, divisor, square_sum);
            for (ContractOperand* operand : {&in.values, &in.first, &in.second}) {
                *operand = run.input_output(DataType::kF32, before);
            }
            if (type() == DataType::kBf16) in.weights = run.input_output(type(), before);
            const ContractOperand loss = run.input(DataType::kF32, filled(1, 1, loss_value));
            run.run([&](Backend& backend, const ContractPlace& at) {
                AdamW operation = in.operation(at);
                operation.max_norm = max_norm;
                operation.loss = at(loss);
                backend.adamw(operation);
            });
            for (const ContractOperand& operand : {in.values, in.first, in.second}) {
                EXPECT_TRUE(same(run.got(operand), before));
            }
            expect_weights(run, in, before);
        }
    }
}

class MemoryContract : public ContractTest {
   protected:
    // One back end suffices here.
    [[nodiscard]] Backend& backend() const { return *backends().several_threads; }
};

TEST_P(MemoryContract, AllocatedMemoryIsZeroAndAligned) {
    for (const std::int64_t bytes : {0, 1, 255, 256, 100000}) {
        const DeviceBuffer buffer = backend().allocate(bytes);
        ASSERT_NE(buffer.data(), nullptr);
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % Arena::kAlignment, 0U);
        EXPECT_EQ(buffer.bytes(), bytes);
        std::vector<unsigned char> host(static_cast<std::size_t>(bytes) + 1, 1);
        backend().download(host.data(), make_vector(buffer.data(), DataType::kU8, bytes));
        EXPECT_EQ(std::accumulate(host.begin(), host.end(), 0), 1);  // the one beyond is not written
    }
}

TEST_P(MemoryContract, AnUploadKeepsWhatTheHostHadWhenItReturned) {
    const DeviceBuffer buffer = backend().allocate(4000);
    const Tensor x = make_vector(buffer.data(), DataType::kF32, 1000);
    std::vector<float> host(1000, 3.0F);
    backend().upload(x, host.data());
    host.assign(1000, 4.0F);
    std::vector<float> back(1000);
    backend().download(back.data(), x);
    EXPECT_EQ(back, std::vector<float>(1000, 3.0F));
}

TEST_P(MemoryContract, DownloadWaitsForWhatWasQueuedBefore) {
    const DeviceBuffer buffer = backend().allocate(3 * 40000);
    const Tensor all = make_tensor(buffer.data(), DataType::kF32, 3, 10000);
    const std::vector<float> ones(10000, 1.0F);
    for (const std::int64_t row : {0, 1}) backend().upload(all.row_range(row, 1), ones.data());
    for (int i = 0; i < 10; ++i) backend().add(all.row_range(0, 1), all.row_range(0, 1), all.row_range(1, 1));
    std::vector<float> back(10000);
    backend().download(back.data(), all.row_range(0, 1));
    EXPECT_EQ(back, std::vector<float>(10000, 11.0F));
}

TEST_P(MemoryContract, CopyAndZeroTouchTheirViewOnly) {
    for (const Layout from : {Layout::kPacked, Layout::kStrided}) {
        for (const Layout to : {Layout::kPacked, Layout::kStrided}) {
            ContractRun run(backends());
            const ContractOperand x = run.input(type(), normal(17, 33), from);
            const ContractOperand y = run.output(type(), 17, 33, to);
            const ContractOperand none = run.output(type(), 0, 33, to);
            const ContractOperand zeroed = run.output(type(), 9, 7);
            run.run([&](Backend& any, const ContractPlace& at) {
                any.copy(at(y), at(x));
                any.copy(at(none), at(x).row_range(3, 0));
                any.zero(at(zeroed));
            });
            EXPECT_TRUE(same(run.got(y), run.got(x)));
            EXPECT_TRUE(same(run.got(zeroed), HostMatrix(9, 7)));
        }
    }
}

TEST_P(MemoryContract, TheBackEndDescribesItself) { EXPECT_FALSE(backend().description().empty()); }

INSTANTIATE_TEST_SUITE_P(Backends, OptimizerContract, testing::ValuesIn(contract_cases()), case_name);
INSTANTIATE_TEST_SUITE_P(Backends, MemoryContract, testing::ValuesIn(contract_cases()), case_name);

}  // namespace
}  // namespace duologue
