// StopFile: a file whose existence asks the run to save and end, for those who cannot send it a signal.
#pragma once

#include <chrono>
#include <string>
#include <utility>

namespace duologue {

class StopFile {
   public:
    /// `path` "": nobody asks.
    explicit StopFile(std::string path) : path_(std::move(path)) {}

    /// Whether the file has been seen. The file system, which may be a slow one, is asked at most once a second.
    [[nodiscard]] bool exists();

   private:
    using Clock = std::chrono::steady_clock;
    std::string path_;
    bool seen_ = false;
    Clock::time_point next_look_;  // the first look is at once
};

}  // namespace duologue
