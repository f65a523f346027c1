// Job: a command line run by the shell, with its output, its exit status, and a deadline.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "support/temporary_folder.h"

namespace duologue {

struct Outcome {
    int status =
        -1;  ///< exit status; 128 + number where a signal ended it; -1 where it had to be ended at the deadline
    std::string output;  ///< standard output and error
    double seconds = 0.0;
};

/// Starts at once, in a process group of its own; ended with the object where it still runs.
class Job {
   public:
    explicit Job(const std::string& command);
    ~Job();
    Job(const Job&) = delete;
    Job& operator=(const Job&) = delete;
    Job(Job&&) = delete;
    Job& operator=(Job&&) = delete;

    [[nodiscard]] std::string output() const;
    /// Whether `text` has come out before the job ended or `seconds` passed.
    [[nodiscard]] bool says(std::string_view text, double seconds);
    /// To the shell's successor: the command itself where it is a single one begun with `exec`.
    void signal(int number) const;
    [[nodiscard]] int process() const { return process_; }
    /// Waits for the end. What still runs after `seconds` is killed.
    [[nodiscard]] Outcome finish(double seconds);

   private:
    [[nodiscard]] bool ended();

    std::chrono::steady_clock::time_point begin_;
    TemporaryFolder folder_;
    int process_ = -1;
    int wait_status_ = -1;
    bool ended_ = false;
};

/// Runs a command to its end.
[[nodiscard]] Outcome run(const std::string& command, double seconds = 200.0);

/// Processes with `marker` on their command line.
[[nodiscard]] int processes_with(std::string_view marker);

}  // namespace duologue
