// duologue inspect: what a file or folder is, what it holds, and whether it is whole.
#include <filesystem>
#include <fstream>

#include "commands/inspection.h"
#include "commands/program.h"
#include "data/hdf5_file.h"
#include "duologue/arguments/config_options.h"
#include "duologue/chat/saved_model.h"
#include "duologue/core/durable_file.h"
#include "duologue/core/error.h"
#include "duologue/core/log.h"
#include "duologue/data/inspection.h"

namespace duologue {

namespace {

namespace fs = std::filesystem;

struct InspectArguments {
    std::string path;
    std::int64_t conversation = -1;
    std::string config;
    std::string vocabulary;
    ReportStyle style = ReportStyle::kText;
};

std::string inside(const std::string& folder, std::string_view name) { return (fs::path(folder) / name).string(); }

std::string folder_of(const std::string& path) {
    const std::string folder = fs::path(path).parent_path().string();
    return folder.empty() ? "." : folder;
}

[[noreturn]] void fail_unknown(const std::string& path) {
    fail(ErrorCode::kData,
         "'{}' is nothing that duologue writes: give a shard, a folder of preprocessed data, a vocabulary, a "
         "checkpoint, a folder of checkpoints, a saved model, or the output folder of a run",
         path);
}

bool begins_like_hdf5(const std::string& path) {
    std::string begin(4, '\0');
    std::ifstream(path, std::ios::binary).read(begin.data(), 4);
    return begin == "\x89HDF" || fs::path(path).extension() == ".h5";
}

Inspection inspect_hdf5(const std::string& path) {
    const Hdf5File file = Hdf5File::open(path);
    const std::string format = file.has_attribute("format") ? file.read_text("format") : "";
    if (format == "duologue-shard") return {.report = describe_shard(inspect_shard(path))};
    if (format == "duologue checkpoint") return inspect_checkpoint(path);
    fail_unknown(path);
}

Inspection inspect_file(const std::string& path) {
    const std::string name = fs::path(path).filename().string();
    if (begins_like_hdf5(path)) return inspect_hdf5(path);
    if (name == kWeightsFile) return inspect_model(folder_of(path));
    const std::string text = read_file(path);
    const Report document = Report::parse(text, nullptr, false);
    const bool object = document.is_object();
    if (object && document.contains("duologue")) return inspect_model(folder_of(path));
    const std::string format = object ? document.value("format", "") : "";
    if (name == kManifestFile || format == "duologue-data") {
        InspectedData data = inspect_data(folder_of(path));
        return {.report = std::move(data.report), .problems = std::move(data.problems)};
    }
    if (name == kVocabularyFile || format.starts_with("duologue")) {
        return {.report = describe_vocabulary(Vocabulary::parse(text, path))};
    }
    fail_unknown(path);
}

Inspection inspect_folder(const std::string& path) {
    if (fs::exists(inside(path, kManifestFile))) return inspect_file(inside(path, kManifestFile));
    if (fs::exists(inside(path, kWeightsFile))) return inspect_model(path);
    if (fs::exists(inside(path, "checkpoints")) || fs::exists(inside(path, "metrics.jsonl"))) return inspect_run(path);
    if (holds_checkpoints(path)) return inspect_checkpoints(path);
    fail_unknown(path);
}

/// The shard that holds conversation `index` of a data folder, counted through the manifest's list; `index` is then
/// counted inside that shard.
std::string shard_of(const std::string& folder, std::int64_t& index) {
    const Manifest manifest = Manifest::load(folder);
    std::int64_t total = 0;
    for (const ShardEntry& entry : manifest.shards) {
        if (index < total + entry.counts.conversations) {
            index -= total;
            return inside(folder, entry.file);
        }
        total += entry.counts.conversations;
    }
    fail(ErrorCode::kConfiguration, "there is no conversation {} in '{}'; they are counted from 0 to {}", index, folder,
         total - 1);
}

std::string conversation_text(const Report& report) {
    std::string text = fmt::format("conversation {}\n", report["conversation"].dump());
    for (const Report& turn : report["turns"]) {
        text += fmt::format("  {}> {}\n", turn["speaker"].dump(), turn["text"].get<std::string>());
    }
    text += "examples; what the decoder reads but is not to say stands in [brackets]\n";
    for (const Report& example : report["examples"]) {
        text += fmt::format("  source  {}\n  target  {}\n\n", example["source"].get<std::string>(),
                            example["target"].get<std::string>());
    }
    return text;
}

int show_conversation(const Program& program, const InspectArguments& arguments) {
    const Config config = effective_config(program, arguments.config);
    std::int64_t index = arguments.conversation;
    const bool folder = fs::is_directory(arguments.path);
    const std::string path = folder ? shard_of(arguments.path, index) : arguments.path;
    const InspectedShard inspected = inspect_shard(path);
    const std::string words =
        arguments.vocabulary.empty() ? inside(folder_of(path), kVocabularyFile) : arguments.vocabulary;
    const Vocabulary vocabulary = Vocabulary::load(words);
    require(vocabulary.hash() == inspected.header.vocabulary_hash, ErrorCode::kData,
            "'{}' was written with the vocabulary {}, '{}' is {}; give the right one as --vocabulary FILE", path,
            inspected.header.vocabulary_hash, words, vocabulary.hash());
    const Report report = describe_conversation(inspected.shard, index, vocabulary, config.data, config.model.kind);
    fmt::print("{}",
               arguments.style == ReportStyle::kText ? conversation_text(report) : render(report, arguments.style));
    return 0;
}

int inspect(const Program& program, const InspectArguments& arguments) {
    require(fs::exists(arguments.path), ErrorCode::kInputOutput, "there is no file or folder '{}'", arguments.path);
    if (arguments.conversation >= 0) return show_conversation(program, arguments);
    require(arguments.config.empty() && arguments.vocabulary.empty(), ErrorCode::kConfiguration,
            "{} is for one conversation: add --conversation N, or leave it out",
            arguments.config.empty() ? "--vocabulary" : "--config");
    const Inspection found =
        fs::is_directory(arguments.path) ? inspect_folder(arguments.path) : inspect_file(arguments.path);
    Report report{{"path", arguments.path}};
    report.update(found.report);
    report["valid"] = found.problems.empty();
    fmt::print("{}", render(report, arguments.style));
    for (const std::string& problem : found.problems) Log().error("{}", problem);
    return found.problems.empty() ? 0 : static_cast<int>(ErrorCode::kData);
}

}  // namespace

void declare_inspect(Program& program) {
    const auto arguments = std::make_shared<InspectArguments>();
    Command& command = program.line.add_command(
        "inspect", "what a shard, data folder, vocabulary, checkpoint, model or run holds, and whether it is whole");
    command.value("PATH", "PATH", arguments->path, "file or folder; all checksums in it are verified").required();
    command
        .integer("--conversation", arguments->conversation, between(0, 1e12),
                 "of a shard or data folder: print this conversation, counted from 0, and what is trained on it")
        .default_value.clear();
    command.value("--config", "FILE", arguments->config,
                  "with --conversation: the JSON file of the training; --data.max_context_tokens=N and the like come "
                  "after it");
    command.value("--vocabulary", "FILE", arguments->vocabulary,
                  "with --conversation: the words, where they are not beside the shard");
    add_json_option(command, arguments->style);
    add_config_options(command, "data.", program.overrides);
    add_config_options(command, "model.", program.overrides);
    command.run = [&program, arguments] { return inspect(program, *arguments); };
}

}  // namespace duologue
