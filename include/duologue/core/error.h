// The one error type: what was being done, what went wrong with which values, what to do about it.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace duologue {

/// What kind of thing went wrong. The value is the exit status of the program.
enum class ErrorCode : int {
    kConfiguration = 2,
    kData = 3,
    kInputOutput = 4,
    kDevice = 5,
    kCommunication = 6,
    kInternal = 7,
};

/// Thrown everywhere, caught only in `main`.
class Error : public std::runtime_error {
   public:
    Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
    [[nodiscard]] ErrorCode code() const { return code_; }
    [[nodiscard]] int exit_status() const { return static_cast<int>(code_); }

   private:
    ErrorCode code_;
};

/// Throws an Error with a formatted message.
template <class... Args>
[[noreturn]] void fail(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
    throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

/// Throws an Error with a formatted message unless `condition` holds.
template <class... Args>
void require(bool condition, ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
    if (!condition) fail(code, format, std::forward<Args>(args)...);
}

}  // namespace duologue
