// Inspection of what training writes: checkpoints, saved models, and the output folder that holds them.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "duologue/core/report.h"

namespace duologue {

/// What was found. A file that is damaged on its own is an Error instead; of a folder with several files, each
/// damaged one is told here.
struct Inspection {
    Report report;
    std::vector<std::string> problems = {};
};

/// The whole file with its checksums. kData where it is damaged.
[[nodiscard]] Inspection inspect_checkpoint(const std::string& path);
[[nodiscard]] bool holds_checkpoints(const std::string& folder);
[[nodiscard]] Inspection inspect_checkpoints(const std::string& folder);
/// kData where a file is damaged or does not fit the others.
[[nodiscard]] Inspection inspect_model(const std::string& folder);
/// output.path of a run.
[[nodiscard]] Inspection inspect_run(const std::string& folder);

}  // namespace duologue
