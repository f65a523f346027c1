// GPUs of three ranks fail: the job ends in time with status 6, though host threads wait for their GPUs, and says who
// it was.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/failing_job.h"

namespace duologue {
namespace {

using testing::ContainsRegex;
using testing::ElementsAre;
using testing::HasSubstr;

using FailingGpu = FailingJob;

TEST_F(FailingGpu, NoFailureMeansStatusZeroAndNoOutput) {
    const Outcome outcome = run_job("nothing");
    EXPECT_EQ(outcome.status, 0);
    EXPECT_EQ(outcome.output, "");
}

TEST_F(FailingGpu, ARankWhoseCollectiveNeverComesIsNamedOnce) {
    const Outcome outcome = run_job("freeze");
    EXPECT_EQ(outcome.status, 6);
    EXPECT_THAT(errors_of(outcome),
                ElementsAre(ContainsRegex("waited 3.[0-9] s in the sum of gradients after step 1; late: rank 1 on "
                                          "[^,;]*; look at.*.rank 0 of 3 on [^,]+, after step 1.$")));
    EXPECT_LT(outcome.seconds, 12.0);
}

TEST_F(FailingGpu, AnErrorThatNcclReportsLaterEndsTheJobWithNcclsWords) {
    const Outcome outcome = run_job("fails-later");
    EXPECT_EQ(outcome.status, 6);
    EXPECT_THAT(errors_of(outcome),
                ElementsAre(ContainsRegex("NCCL failed in the sum of gradients: a fake NCCL error .as "
                                          "the test asked. .rank 1 of 3 on [^,]+, after step 1.$")));
    EXPECT_LT(outcome.seconds, 12.0);
}

TEST_F(FailingGpu, RanksThatCannotBeConnectedSaySoAtTheDeadline) {
    const Outcome outcome = run_job("never-connects");
    EXPECT_EQ(outcome.status, 6);
    EXPECT_EQ(errors_of(outcome).size(), 1U) << outcome.output;
    EXPECT_THAT(outcome.output, HasSubstr("in connecting the ranks' GPUs by NCCL; NCCL_DEBUG=INFO"));
    EXPECT_LT(outcome.seconds, 12.0);
}

}  // namespace
}  // namespace duologue
