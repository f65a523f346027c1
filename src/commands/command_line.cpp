// What commands share of the command line.
#include <filesystem>

#include "commands/program.h"
#include "duologue/chat/saved_model.h"
#include "duologue/core/error.h"
#include "duologue/data/shards.h"
#include "duologue/train/checkpoint.h"

namespace duologue {

namespace {

namespace fs = std::filesystem;

bool holds(const fs::path& folder, std::string_view name) {
    std::error_code unreadable;
    return fs::exists(folder / name, unreadable);
}

bool holds_model(const fs::path& folder) { return holds(folder, kWeightsFile); }

[[noreturn]] void refuse_as_model(const std::string& file) {
    require(!file.ends_with(".h5"), ErrorCode::kInputOutput,
            "'{}' is not a saved model; if it is a checkpoint, make a model of it: duologue export --checkpoint {} "
            "--output DIR, and give DIR",
            file, file);
    const fs::path folder = fs::absolute(file).parent_path();
    require(!holds_model(folder), ErrorCode::kInputOutput, "'{}' is a file of a saved model; give the folder, {}", file,
            folder.string());
    fail(ErrorCode::kInputOutput, "'{}' is a file, not the folder of a saved model", file);
}

}  // namespace

void add_json_option(Command& command, ReportStyle& style) {
    command.flag("--json", "print the report as JSON", [&style] { style = ReportStyle::kJson; });
}

void add_config_file_option(Command& command, std::string& path) {
    command.value("--config", "FILE", path,
                  "JSON file with options of the sections below; the command line's come after it");
}

void require_data_folder(std::string_view option, const std::string& path) {
    std::error_code unreadable;  // is said by who reads it
    if (!fs::is_regular_file(path, unreadable)) return;
    const fs::path folder = fs::absolute(path).parent_path();
    require(!holds(folder, kManifestFile), ErrorCode::kConfiguration,
            "{} is '{}', a file of a folder of preprocessed data; give the folder, {}", option, path, folder.string());
    fail(ErrorCode::kConfiguration,
         "{} is '{}', a file, not a folder of shards; where it holds conversations, preprocess it first: "
         "duologue-preprocess '{}' --output DIR, and give DIR",
         option, path, path);
}

void require_model_folder(const std::string& path) {
    std::error_code unreadable;  // is said by who reads it
    if (fs::is_regular_file(path, unreadable)) refuse_as_model(path);
    if (holds_model(path)) return;
    const fs::path model = fs::path(path) / "model";
    require(!holds_model(model), ErrorCode::kInputOutput,
            "'{}' is the output of a training, its model is in a folder of its own: give {}", path, model.string());
    const std::string newest = newest_checkpoint(path);
    const std::string make =
        fmt::format("make one of a checkpoint: duologue export --checkpoint {} --output DIR, and give DIR", newest);
    require(!holds(path, "checkpoints"), ErrorCode::kInputOutput,
            "'{}' is the output of a training that has not ended, so there is no model yet; end the training{}", path,
            newest.empty() ? "" : ", or " + make);
    require(newest.empty(), ErrorCode::kInputOutput, "'{}' holds checkpoints, not a model; {}", path, make);
}

std::string newest_checkpoint(const std::string& path) {
    for (const std::string& folder : {path, (fs::path(path) / "checkpoints").string()}) {
        const CheckpointFolder checkpoints(folder);
        const std::vector<std::int64_t> steps = checkpoints.steps();
        if (!steps.empty()) return checkpoints.file_of(steps.back());
    }
    return "";
}

}  // namespace duologue
