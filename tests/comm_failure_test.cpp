// One rank of three fails: the job ends in time with its exit status, says who it was, and leaves no process.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <string>

#include "duologue/comm/communicator.h"
#include "support/job.h"

namespace duologue {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;

// `marker` stands on the command line of every process of the job, so that those left over can be found.
Outcome run_job(const std::string& how, const std::string& marker) {
    return run(std::string(MPIRUN) + " -n 3 " + FAILING_PROGRAM + " " + how + " " + marker);
}

class FailingRank : public testing::Test {
   protected:
    [[nodiscard]] std::string marker() const {
        const auto* test = testing::UnitTest::GetInstance()->current_test_info();
        return std::string("marker-") + test->name() + "-" + std::to_string(::getpid());
    }
    void TearDown() override { EXPECT_EQ(processes_with(marker()), 0); }
};

TEST_F(FailingRank, NoFailureMeansStatusZeroAndNoOutput) {
    const Outcome outcome = run_job("nothing", marker());
    EXPECT_EQ(outcome.status, 0);
    EXPECT_EQ(outcome.output, "");
}

TEST_F(FailingRank, AThrowingRankEndsTheJobWithItsStatus) {
    const Outcome outcome = run_job("throw", marker());
    EXPECT_EQ(outcome.status, 3);
    EXPECT_THAT(outcome.output, HasSubstr("this rank throws"));
    EXPECT_LT(outcome.seconds, 10.0);
}

TEST_F(FailingRank, AFrozenRankIsNamed) {
    const Outcome outcome = run_job("freeze", marker());
    EXPECT_EQ(outcome.status, 6);
    EXPECT_THAT(outcome.output, ContainsRegex("in the sum of gradients; late: rank 1 on [^,;]*; look"));
    EXPECT_LT(outcome.seconds, 20.0);
}

TEST_F(FailingRank, AKilledRankEndsTheJob) {
    const Outcome outcome = run_job("die", marker());
    EXPECT_EQ(outcome.status, 128 + 9);
    EXPECT_LT(outcome.seconds, 20.0);
}

TEST_F(FailingRank, ARankFrozenBeforeTheEndIsNoticed) {
    const Outcome outcome = run_job("freeze-before-end", marker());
    EXPECT_EQ(outcome.status, 6);
    EXPECT_THAT(outcome.output, ContainsRegex("late: rank 1 on [^,;]*; look"));
    EXPECT_LT(outcome.seconds, 20.0);
}

TEST_F(FailingRank, AProgramAloneNeedsNoMpirunAndMakesNoNoise) {
    const Outcome outcome = run(std::string("env -i ") + FAILING_PROGRAM + " nothing " + marker());
    EXPECT_EQ(outcome.status, 0);
    EXPECT_EQ(outcome.output, "");
}

TEST_F(FailingRank, AProgramAloneEndsWithItsStatus) {
    const Outcome outcome = run(std::string("env -i ") + FAILING_PROGRAM + " throw " + marker());
    EXPECT_EQ(outcome.status, 3);
    EXPECT_EQ(outcome.output, "error: this rank throws\n");
}

TEST(SingleCommunicator, LeavesSumsAsTheyAre) {
    const auto communicator = make_single_communicator();
    std::array<float, 3> x{1.0F, 2.0F, 3.0F};
    std::array<float, 3> y{};
    communicator->all_reduce_sum(make_vector(x.data(), DataType::kF32, 3), "test");
    communicator->all_gather(make_vector(y.data(), DataType::kF32, 3), make_vector(x.data(), DataType::kF32, 3), "x");
    communicator->join();
    EXPECT_EQ(y, (std::array<float, 3>{1.0F, 2.0F, 3.0F}));
}

}  // namespace
}  // namespace duologue
