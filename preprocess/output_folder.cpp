// What belongs into a folder of data, by its name.
#include "output_folder.h"

#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <functional>
#include <string_view>
#include <utility>

#include "duologue/core/error.h"
#include "duologue/data/shards.h"

namespace duologue::preprocess {

namespace {

namespace fs = std::filesystem;

bool is_shard_name(std::string_view name) {
    return (name.starts_with("train-") || name.starts_with("validation-")) && name.ends_with(".h5");
}

bool is_data_name(std::string_view name) {
    return name == kManifestFile || name == kVocabularyFile || is_shard_name(name);
}

/// Of a file that was not finished: NAME.PROCESS.part.
bool is_leftover_name(std::string_view name) {
    constexpr std::string_view kEnding = ".part";
    if (!name.ends_with(kEnding)) return false;
    name.remove_suffix(kEnding.size());
    const std::size_t dot = name.rfind('.');
    return dot != std::string_view::npos && is_data_name(name.substr(0, dot)) &&
           std::ranges::all_of(name.substr(dot + 1), [](unsigned char c) { return std::isdigit(c) != 0; });
}

void remove_entries(const std::string& folder, const std::function<bool(const std::string&)>& unwanted) {
    std::vector<fs::path> found;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
        if (unwanted(entry.path().filename().string())) found.push_back(entry.path());
    }
    for (const fs::path& path : found) fs::remove(path);
}

/// The folders that have to be made for `path`, the inner ones first.
std::vector<fs::path> missing_folders(fs::path path) {
    std::vector<fs::path> missing;
    std::error_code ignored;
    for (; !path.empty() && !fs::exists(path, ignored); path = path.parent_path()) missing.push_back(path);
    return missing;
}

}  // namespace

void check_output(const std::string& folder) {
    std::error_code problem;
    if (!fs::exists(folder, problem) && !problem) return;
    for (fs::directory_iterator entry(folder, problem), end; !problem && entry != end; entry.increment(problem)) {
        const std::string name = entry->path().filename().string();
        const bool fitting = (is_data_name(name) || is_leftover_name(name)) && !entry->is_directory();
        require(fitting || name.starts_with('.'), ErrorCode::kInputOutput,
                "the folder '{}' holds '{}', which is not of preprocessed data; name a new folder or an empty one",
                folder, name);
    }
    require(!problem, ErrorCode::kInputOutput, "cannot use the folder '{}': {}", folder, problem.message());
}

OutputFolder::OutputFolder(std::string path) : path_(std::move(path)), made_(missing_folders(path_)) {
    std::error_code problem;
    fs::create_directories(path_, problem);
    require(!problem && fs::is_directory(path_), ErrorCode::kInputOutput, "cannot make the folder '{}': {}", path_,
            problem ? problem.message() : "something else has that name");
    require(::access(path_.c_str(), W_OK) == 0, ErrorCode::kInputOutput, "the folder '{}' is not writable", path_);
    remove_entries(path_, is_leftover_name);
}

OutputFolder::~OutputFolder() {
    std::error_code ignored;
    for (const fs::path& folder : made_) fs::remove(folder, ignored);  // which spares one that is not empty
}

void OutputFolder::remove_shards_but(const std::set<std::string>& current) const {
    remove_entries(path_, [&](const std::string& name) { return is_shard_name(name) && !current.contains(name); });
}

}  // namespace duologue::preprocess
