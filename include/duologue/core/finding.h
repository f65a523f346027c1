// Finding: what a check of a machine found: fine, doubtful or wrong, and what to do about it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duologue/core/error.h"

namespace duologue {

enum class Verdict : std::uint8_t { kOk, kWarning, kFailure };
[[nodiscard]] std::string_view name_of(Verdict verdict);  ///< "ok", "warn", "fail"

struct Finding {
    Verdict verdict = Verdict::kOk;
    std::string topic;                           ///< what was looked at, for example "memory"
    std::string text;                            ///< what was seen
    std::string remedy;                          ///< what to do about it; "" where all is well
    ErrorCode code = ErrorCode::kConfiguration;  ///< kFailure: the exit status it would end a training with
    bool operator==(const Finding&) const = default;
};
using Findings = std::vector<Finding>;

[[nodiscard]] Finding fine(std::string topic, std::string text);
[[nodiscard]] Finding doubtful(std::string topic, std::string text, std::string remedy);
[[nodiscard]] Finding wrong(ErrorCode code, std::string topic, std::string text, std::string remedy);
/// `error` as a finding: its message says what to do.
[[nodiscard]] Finding wrong(const std::string& topic, const Error& error);

/// Versions "major.minor.patch" of a library: kWarning where the running one is another major or minor than the one
/// this program was compiled with.
[[nodiscard]] Finding compare_versions(const std::string& library, const std::string& compiled,
                                       const std::string& running);

/// One line each, the remedy on a line of its own below.
[[nodiscard]] std::string render(const Findings& findings);

/// 0, or the exit status of the first failure.
[[nodiscard]] int exit_status_of(const Findings& findings);

}  // namespace duologue
