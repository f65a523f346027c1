// Progress: one line on a terminal that says how far a pass over the inputs has come; silent elsewhere.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace duologue::preprocess {

class Progress {
   public:
    Progress(std::string label, std::int64_t total_bytes);
    ~Progress();  // wipes the line
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;
    Progress(Progress&&) = delete;
    Progress& operator=(Progress&&) = delete;

    /// Redraws at most a few times a second.
    void update(std::int64_t bytes_done);

   private:
    using Clock = std::chrono::steady_clock;
    std::string label_;
    std::int64_t total_bytes_;
    bool on_terminal_;
    Clock::time_point start_ = Clock::now();
    Clock::time_point drawn_;
};

}  // namespace duologue::preprocess
