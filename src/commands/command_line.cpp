// What commands share of the command line.
#include <filesystem>

#include "commands/program.h"
#include "duologue/core/error.h"
#include "duologue/data/shards.h"

namespace duologue {

void add_json_option(Command& command, ReportStyle& style) {
    command.flag("--json", "print the report as JSON", [&style] { style = ReportStyle::kJson; });
}

void add_config_file_option(Command& command, std::string& path) {
    command.value("--config", "FILE", path,
                  "JSON file with options of the sections below; the command line's come after it");
}

void require_data_folder(std::string_view option, const std::string& path) {
    std::error_code unreadable;  // is said by who reads it
    if (!std::filesystem::is_regular_file(path, unreadable)) return;
    const std::filesystem::path folder = std::filesystem::absolute(path).parent_path();
    require(!std::filesystem::exists(folder / kManifestFile), ErrorCode::kConfiguration,
            "{} is '{}', a file of a folder of preprocessed data; give the folder, {}", option, path, folder.string());
    fail(ErrorCode::kConfiguration,
         "{} is '{}', a file, not a folder of shards; where it holds conversations, preprocess it first: "
         "duologue-preprocess '{}' --output DIR, and give DIR",
         option, path, path);
}

}  // namespace duologue
