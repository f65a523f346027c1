// One rank of three fails: the job ends in time with its exit status, says who it was, and leaves no process.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <string>

#include "duologue/comm/communicator.h"
#include "support/failing_job.h"

namespace duologue {
namespace {

using testing::ContainsRegex;
using testing::ElementsAre;
using testing::IsEmpty;

using FailingRank = FailingJob;

constexpr double kInTime = 6.0 + 4.0;  // the failing program's timeout, and the start of mpirun

TEST_F(FailingRank, NoFailureMeansStatusZeroAndNoOutput) {
    const Outcome outcome = run_job("nothing");
    EXPECT_EQ(outcome.status, 0);
    EXPECT_EQ(outcome.output, "");
}

TEST_F(FailingRank, AThrowingRankEndsTheJobWithItsStatusAndSaysWhoAndWhen) {
    const Outcome outcome = run_job("throw");
    EXPECT_EQ(outcome.status, 3);
    EXPECT_THAT(errors_of(outcome),
                ElementsAre(ContainsRegex("error: this rank throws .rank 1 of 3 on [^,]+, after step 2.$")));
    EXPECT_LT(outcome.seconds, kInTime);
}

TEST_F(FailingRank, RanksThatFailAtOnceSayItOnce) {
    const Outcome outcome = run_job("all-throw");
    EXPECT_EQ(outcome.status, 3);
    EXPECT_THAT(errors_of(outcome),
                ElementsAre(ContainsRegex("error: every rank throws .rank 0 of 3 on [^,]+, after step 2.$")));
    EXPECT_LT(outcome.seconds, kInTime);
}

TEST_F(FailingRank, AFrozenRankIsNamedOnceWithHostStepAndOperation) {
    const Outcome outcome = run_job("freeze");
    EXPECT_EQ(outcome.status, 6);
    EXPECT_THAT(errors_of(outcome),
                ElementsAre(ContainsRegex(
                    "rank 0 on [^ ]+ waited 3.[0-9] s in the sum of gradients after step 2; late: rank 1 on "
                    "[^,;]*; look at.*.rank 0 of 3 on [^,]+, after step 2.$")));
    EXPECT_LT(outcome.seconds, kInTime);
}

TEST_F(FailingRank, ARankFrozenBeforeTheFirstStepIsNamed) {
    const Outcome outcome = run_job("freeze-in-set-up");
    EXPECT_EQ(outcome.status, 6);
    EXPECT_THAT(errors_of(outcome),
                ElementsAre(ContainsRegex("waited 3.[0-9] s in the comparison of something; late: rank 1 on ")));
    EXPECT_LT(outcome.seconds, kInTime);
}

TEST_F(FailingRank, ARankFrozenWhileMpiStartsEndsTheJob) {
    for (const char* how : {"freeze-before-start", "freeze-in-comm-dup"}) {
        const Outcome outcome = run_job(how);
        EXPECT_EQ(outcome.status, 6) << how;
        EXPECT_THAT(errors_of(outcome),
                    ElementsAre(ContainsRegex("error: rank 0 on [^ ]+ waited 3.0 s for the other ranks to start MPI;")))
            << how;
        EXPECT_LT(outcome.seconds, kInTime) << how;
    }
}

TEST_F(FailingRank, AKilledRankEndsTheJobAndTheOthersSayWhereItStood) {
    const Outcome outcome = run_job("die");
    EXPECT_EQ(outcome.status, 128 + 9);
    EXPECT_THAT(lines_with(outcome, "warning: "),
                ElementsAre(ContainsRegex("warning: the job is being ended; rank 0 on [^ ]+ waited [0-9.]+ s in the "
                                          "sum of gradients after step 2")));
    EXPECT_THAT(errors_of(outcome), IsEmpty());
    EXPECT_LT(outcome.seconds, kInTime);
}

TEST_F(FailingRank, ARankFrozenBeforeTheEndIsNoticed) {
    const Outcome outcome = run_job("freeze-before-end");
    EXPECT_EQ(outcome.status, 6);
    EXPECT_THAT(errors_of(outcome),
                ElementsAre(ContainsRegex("the end of the job after step 4; late: rank 1 on [^,;]*; look")));
    EXPECT_LT(outcome.seconds, kInTime);
}

TEST_F(FailingRank, ARankThatIsLateWithoutAWordEndsTheJob) {
    const Outcome outcome = run_job("slow");
    EXPECT_EQ(outcome.status, 6);
    EXPECT_EQ(errors_of(outcome).size(), 1U) << outcome.output;
}

TEST_F(FailingRank, ARankThatSaysThatItIsBusyIsWaitedFor) {
    const Outcome outcome = run_job("busy");
    EXPECT_EQ(outcome.status, 0);
    EXPECT_EQ(outcome.output, "");
}

TEST_F(FailingRank, ARankThatFreezesWhileItIsBusyIsNamedWithWhatItDid) {
    const Outcome outcome = run_job("freeze-while-busy");
    EXPECT_EQ(outcome.status, 6);
    EXPECT_THAT(errors_of(outcome), ElementsAre(ContainsRegex("late: rank 1 on [^,;]* .last heard of while writing "
                                                              "something big.; look")));
    EXPECT_LT(outcome.seconds, 15.0);
}

TEST_F(FailingRank, AProgramAloneNeedsNoMpirunAndMakesNoNoise) {
    const Outcome outcome = run_alone("nothing");
    EXPECT_EQ(outcome.status, 0);
    EXPECT_EQ(outcome.output, "");
}

TEST_F(FailingRank, AProgramAloneEndsWithItsStatus) {
    const Outcome outcome = run_alone("throw");
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
