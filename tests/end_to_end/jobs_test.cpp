// Jobs that are stopped, killed, frozen, or lose their data: they end in time, say who and why, and can go on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <fstream>
#include <thread>

#include "end_to_end/sample.h"
#include "support/job.h"

namespace duologue {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;

constexpr double kStart = 90.0;  // seconds until the first steps, on a machine that is busy with other things
constexpr double kEnd = 30.0;    // seconds in which all ranks have to end

/// The process of one rank of a job whose process is mpirun.
int process_of_rank(const Job& job, int rank) {
    const int mpirun = job.process();
    std::ifstream children(fmt::format("/proc/{}/task/{}/children", mpirun, mpirun));
    const std::string wanted = fmt::format("OMPI_COMM_WORLD_RANK={}", rank) + '\0';
    for (int child = 0; children >> child;) {
        if (read_file(fmt::format("/proc/{}/environ", child)).find(wanted) != std::string::npos) return child;
    }
    ADD_FAILURE() << "rank " << rank << " is not there: " << job.output();
    return 0;
}

class RunningJob : public testing::Test {
   protected:
    /// The same command again ends with the parameters of the run that nothing had happened to.
    void expect_the_rest_to_give_the_final_model(const std::string& more = "") {
        const Outcome rest = run(train_on(2, run_, more));
        ASSERT_EQ(rest.status, 0) << rest.output;
        EXPECT_THAT(rest.output, HasSubstr("going on from '"));
        EXPECT_TRUE(read_file(run_ + "/model/model.safetensors") == final_model());
    }
    void expect_nothing_left() const {
        EXPECT_EQ(processes_with("output.path=" + run_), 0);
        for (const auto& [name, content] : contents_of(run_)) EXPECT_FALSE(name.ends_with(".part")) << name;
    }

    TemporaryFolder folder_;
    std::string run_ = folder_ / "run";
};

class StopSignal : public RunningJob, public testing::WithParamInterface<int> {};

TEST_P(StopSignal, MakesAllRanksSaveTheSameStepAndEndWithZero) {
    Job job(fmt::format("exec {} -n 2 --bind-to none {}", RANKS_SCRIPT, train(run_)));
    ASSERT_TRUE(job.says("step=10 ", kStart)) << job.output();
    job.signal(GetParam());
    const Outcome outcome = job.finish(kEnd);
    EXPECT_EQ(outcome.status, 0) << outcome.output;
    EXPECT_THAT(outcome.output, HasSubstr("stopped at step"));
    expect_nothing_left();
    expect_the_rest_to_give_the_final_model();
}

INSTANTIATE_TEST_SUITE_P(Each, StopSignal, testing::Values(SIGTERM, SIGINT),
                         [](const auto& test) { return test.param == SIGTERM ? "SIGTERM" : "SIGINT"; });

TEST_F(RunningJob, StopsInOrderWhenMpirunForwardsTheUserSignal) {
    Job job(train_on(2, run_));
    ASSERT_TRUE(job.says("step=10 ", kStart)) << job.output();
    job.signal(SIGUSR1);
    const Outcome outcome = job.finish(kEnd);
    EXPECT_EQ(outcome.status, 0) << outcome.output;
    EXPECT_THAT(outcome.output, HasSubstr("stopped at step"));
    expect_the_rest_to_give_the_final_model();
}

TEST_F(RunningJob, SavesAndEndsWhereNobodyReadsWhatItSays) {
    const std::string unread = " 2>&1 | head -n 1 >/dev/null; exit ${PIPESTATUS[0]}";
    const Outcome outcome = run("bash -c '" + train(run_, "--train.steps=100000") + unread + "'");
    EXPECT_EQ(outcome.status, 0) << outcome.output;
    EXPECT_FALSE(fs::exists(run_ + "/model"));
    EXPECT_FALSE(fs::is_empty(run_ + "/checkpoints"));
}

TEST_F(RunningJob, SavesAndEndsWhenMpirunIsKilled) {
    Job job(train_on(2, run_, "--train.steps=100000 --checkpoint.interval_steps=0"));
    ASSERT_TRUE(job.says("step=10 ", kStart)) << job.output();
    job.signal(SIGKILL);
    (void)job.finish(kEnd);
    for (double waited = 0.0; waited < kEnd && processes_with("output.path=" + run_) > 0; waited += 0.1) {
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    expect_nothing_left();
    EXPECT_FALSE(fs::is_empty(run_ + "/checkpoints"));
}

TEST_F(RunningJob, LetsNoSecondOneIntoItsFolder) {
    Job job(fmt::format("exec {} -n 2 --bind-to none {}", RANKS_SCRIPT, train(run_, "--train.steps=100000")));
    ASSERT_TRUE(job.says("step=10 ", kStart)) << job.output();
    const Outcome second = run(train_on(1, run_, "--train.steps=100000"));
    EXPECT_EQ(second.status, 4) << second.output;
    EXPECT_THAT(second.output, HasSubstr("a training is already at work in '" + run_));
    job.signal(SIGTERM);
    const Outcome first = job.finish(kEnd);
    EXPECT_EQ(first.status, 0) << first.output;
    EXPECT_THAT(first.output, HasSubstr("stopped at step"));
}

// mpirun kills its ranks a second later, saved or not; nothing but the steps since the last checkpoint may be lost.
TEST_F(RunningJob, GoesOnAfterMpirunItselfWasTerminated) {
    Job job(train_on(2, run_));
    ASSERT_TRUE(job.says("step=30 ", kStart)) << job.output();
    job.signal(SIGTERM);
    EXPECT_EQ(job.finish(kEnd).status, 1) << job.output();
    EXPECT_EQ(processes_with("output.path=" + run_), 0);
    expect_the_rest_to_give_the_final_model();
}

TEST_F(RunningJob, EndsAndGoesOnAfterARankWasKilled) {
    Job job(train_on(2, run_));
    ASSERT_TRUE(job.says("step=30 ", kStart)) << job.output();
    ::kill(process_of_rank(job, 1), SIGKILL);
    EXPECT_EQ(job.finish(kEnd).status, 128 + SIGKILL) << job.output();
    EXPECT_EQ(processes_with("output.path=" + run_), 0);
    expect_the_rest_to_give_the_final_model();
}

TEST_F(RunningJob, EndsWithinTheTimeoutNamingAFrozenRank) {
    Job job(train_on(2, run_, "--distributed.timeout_seconds=8"));
    ASSERT_TRUE(job.says("step=30 ", kStart)) << job.output();
    ::kill(process_of_rank(job, 1), SIGSTOP);
    const Outcome outcome = job.finish(8.0 + kEnd);
    EXPECT_EQ(outcome.status, 6) << outcome.output;
    EXPECT_THAT(outcome.output, ContainsRegex("rank 0 on .* waited .* s in .*; late: rank 1 on [^,;]*; look"));
    EXPECT_EQ(processes_with("output.path=" + run_), 0);
    expect_the_rest_to_give_the_final_model();
}

/// Ranks of one job with working folders, and so with data, of their own: as on hosts that share no disk.
std::string train_apart(const std::string& first, const std::string& second) {
    return fmt::format("exec {} {} : {}", kMpirun, first, second);
}

// The shards of the next windows become unreadable while the first is trained on, for one rank or for both.
class LostData : public RunningJob, public testing::WithParamInterface<int> {};

TEST_P(LostData, EndsTheJobNamingTheShard) {
    for (const char* host : {"host-0", "host-1"}) copy_sample("data", folder_ / host + "/data");
    const std::string command = train(run_, "--data.path=data");
    Job job(train_apart(fmt::format("-n 1 -wdir {} {}", folder_ / "host-0", command),
                        fmt::format("-n 1 -wdir {} {}", folder_ / "host-1", command)));
    ASSERT_TRUE(job.says("step=", kStart)) << job.output();
    for (int rank = GetParam(); rank < 2; ++rank) {
        for (const auto& entry : fs::directory_iterator(folder_ / fmt::format("host-{}/data", rank))) {
            if (entry.path().filename().string().starts_with("train-")) fs::resize_file(entry.path(), 10000);
        }
    }
    const Outcome outcome = job.finish(kStart);
    EXPECT_EQ(outcome.status, 3) << outcome.output;
    EXPECT_THAT(outcome.output, ContainsRegex("error: 'data/train-.*h5'.*damaged.*rank [01] of 2 on "));
    EXPECT_EQ(processes_with("output.path=" + run_), 0);
    EXPECT_FALSE(fs::exists(run_ + "/model"));
}

INSTANTIATE_TEST_SUITE_P(Each, LostData, testing::Values(0, 1),
                         [](const auto& test) { return test.param == 0 ? "OnBothRanks" : "OnTheSecondRank"; });

/// One rank of three has other data or another option than the others.
struct OddRank {
    const char* name;
    const char* data;  ///< of the sample; "": none
    const char* option;
    int status;
    const char* says;
};

class OneRank : public testing::TestWithParam<OddRank> {};

TEST_P(OneRank, ThatDiffersEndsTheJobBeforeItTrains) {
    const TemporaryFolder folder;
    const OddRank& odd = GetParam();
    copy_sample("data", folder / "even/data");
    fs::create_directories(folder / "odd");
    if (*odd.data != '\0') copy_sample(odd.data, folder / "odd/data");
    const std::string command = train(folder / "run", "--data.path=data --train.micro_batches_per_step=3");
    const Outcome outcome = run(train_apart(fmt::format("-n 2 -wdir {} {}", folder / "even", command),
                                            fmt::format("-n 1 -wdir {} {} {}", folder / "odd", command, odd.option)),
                                kStart);
    EXPECT_EQ(outcome.status, odd.status) << outcome.output;
    EXPECT_THAT(outcome.output, ContainsRegex(odd.says));
    EXPECT_LT(outcome.seconds, kEnd);
    EXPECT_EQ(processes_with(folder / "run"), 0);
    EXPECT_FALSE(fs::exists(folder / "run/checkpoints"));
}

INSTANTIATE_TEST_SUITE_P(Each, OneRank,
                         testing::Values(OddRank{"WithoutData", "", "", 4, "cannot open 'data/.*rank 2 of 3 on "},
                                         OddRank{"WithAnotherVocabulary", "other_words", "", 3,
                                                 "vocabulary's hash is [0-9a-f]+ on rank 0 .* but [0-9a-f]+ on rank 2"},
                                         OddRank{"WithOtherData", "other_data", "", 3,
                                                 "data's checksum is [0-9a-f]+ on rank 0 .* but [0-9a-f]+ on rank 2"},
                                         OddRank{"WithAnotherSeed", "data", "--train.seed=7", 2,
                                                 "configuration is .* on rank 0 .* but .* on rank 2"},
                                         OddRank{"WithoutItsDevice", "data", "--device.kind=cuda", 5,
                                                 "device.kind = cuda"}),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace duologue
