// One rank of three fails: the job ends in time with its exit status, says who it was, and leaves no process.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "duologue/comm/communicator.h"

namespace duologue {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;

struct Outcome {
    int status = -1;
    std::string output;
    double seconds = 0.0;
};

// `marker` stands on the command line of every process of the job, so that those left over can be found.
Outcome run(const std::string& command) {
    const auto begin = std::chrono::steady_clock::now();
    Outcome outcome;
    FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
    std::array<char, 4096> piece{};
    while (std::fgets(piece.data(), piece.size(), pipe) != nullptr) outcome.output += piece.data();
    const int status = ::pclose(pipe);
    outcome.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    outcome.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    return outcome;
}

// `marker` stands on the command line of every process of the job, so that those left over can be found.
Outcome run_job(const std::string& how, const std::string& marker) {
    return run(std::string(MPIRUN) + " -n 3 " + FAILING_PROGRAM + " " + how + " " + marker);
}

int processes_with(const std::string& marker) {
    int found = 0;
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
        std::ifstream file(entry.path() / "cmdline");
        const std::string words{std::istreambuf_iterator<char>(file), {}};
        if (words.find(marker) != std::string::npos) ++found;
    }
    return found;
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
