// Log: one line per event on standard error, prefixed with the rank where there are several.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>

namespace duologue {

enum class LogLevel { kInfo, kWarning, kError };

/// Where a line goes and who says it; made in `main`, passed by reference. Thread-safe.
class Log {
   public:
    /// `rank` and `ranks` tell who speaks; with one rank lines carry no prefix.
    explicit Log(int rank = 0, int ranks = 1) : rank_(rank), ranks_(ranks) {}

    /// Rank 0 only.
    template <class... Args>
    void info(fmt::format_string<Args...> format, Args&&... args) const {
        if (rank_ == 0) write(LogLevel::kInfo, fmt::format(format, std::forward<Args>(args)...));
    }
    /// Every rank.
    template <class... Args>
    void warning(fmt::format_string<Args...> format, Args&&... args) const {
        write(LogLevel::kWarning, fmt::format(format, std::forward<Args>(args)...));
    }
    /// Every rank.
    template <class... Args>
    void error(fmt::format_string<Args...> format, Args&&... args) const {
        write(LogLevel::kError, fmt::format(format, std::forward<Args>(args)...));
    }

   private:
    void write(LogLevel level, std::string_view text) const;

    int rank_;
    int ranks_;
};

}  // namespace duologue
