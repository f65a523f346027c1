// FailingJob: a program that fails on purpose under mpirun: what it says, how it ends and what it leaves.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <sstream>
#include <string>
#include <vector>

#include "support/job.h"

namespace duologue {

/// The lines that hold `text`.
inline std::vector<std::string> lines_with(const Outcome& outcome, const std::string& text) {
    std::vector<std::string> found;
    std::istringstream lines(outcome.output);
    for (std::string line; std::getline(lines, line);) {
        if (line.find(text) != std::string::npos) found.push_back(line);
    }
    return found;
}

/// The lines that the ranks themselves wrote about errors; mpirun writes more.
inline std::vector<std::string> errors_of(const Outcome& outcome) { return lines_with(outcome, "error: "); }

/// MPIRUN and FAILING_PROGRAM are definitions of the test program.
class FailingJob : public testing::Test {
   protected:
    /// Three ranks; `how` is the program's first argument.
    [[nodiscard]] static Outcome run_job(const std::string& how) {
        return run(std::string(MPIRUN) + " -n 3 " + FAILING_PROGRAM + " " + how + " " + marker());
    }
    /// One process without mpirun and without an environment.
    [[nodiscard]] static Outcome run_alone(const std::string& how) {
        return run(std::string("env -i ") + FAILING_PROGRAM + " " + how + " " + marker());
    }
    void TearDown() override { EXPECT_EQ(processes_with(marker()), 0); }

   private:
    // Stands on the command line of every process of the job, so that those left over can be found.
    [[nodiscard]] static std::string marker() {
        const auto* test = testing::UnitTest::GetInstance()->current_test_info();
        return std::string("marker-") + test->name() + "-" + std::to_string(::getpid());
    }
};

}  // namespace duologue
