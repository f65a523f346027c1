// Reports on checkpoints, saved models and runs.
#include "commands/inspection.h"

#include <filesystem>

#include "duologue/chat/saved_model.h"
#include "duologue/core/error.h"
#include "duologue/train/checkpoint.h"

namespace duologue {

namespace {

namespace fs = std::filesystem;

std::string inside(const std::string& folder, std::string_view name) { return (fs::path(folder) / name).string(); }

std::int64_t size_of_file(const std::string& path) { return static_cast<std::int64_t>(fs::file_size(path)); }

std::int64_t parameters_in(const std::vector<ParameterShape>& shapes) {
    std::int64_t parameters = 0;
    for (const ParameterShape& shape : shapes) parameters += shape.rows * shape.columns;
    return parameters;
}

Report loss_of(const CheckpointSummary& summary) {
    return summary.validation_loss ? Report(*summary.validation_loss) : Report();
}

/// One checkpoint among several; what is wrong with it goes to `problems`.
Report row_of(const std::string& path, std::vector<std::string>& problems) {
    Report row{{"file", fs::path(path).filename().string()}, {"bytes", size_of_file(path)}};
    try {
        const CheckpointSummary summary = read_checkpoint(path).summary;
        row.update({{"step", summary.step},
                    {"epoch", summary.position.epoch + 1},
                    {"validation_loss", loss_of(summary)},
                    {"state", "valid"}});
    } catch (const Error& problem) {
        row.update({{"step", nullptr}, {"epoch", nullptr}, {"validation_loss", nullptr}, {"state", "damaged"}});
        problems.emplace_back(problem.what());
    }
    return row;
}

/// As a section of a larger report.
void add_section(Inspection& whole, const char* name, const Inspection& part) {
    whole.report[name] = part.report;
    whole.problems.insert(whole.problems.end(), part.problems.begin(), part.problems.end());
}

}  // namespace

Inspection inspect_checkpoint(const std::string& path) {
    const Checkpoint checkpoint = read_checkpoint(path);
    const CheckpointSummary& summary = checkpoint.summary;
    const Vocabulary vocabulary = Vocabulary::parse(checkpoint.vocabulary, path);
    return {.report = {{"kind", "checkpoint"},
                       {"schema_version", summary.schema_version},
                       {"step", summary.step},
                       {"skipped_steps", summary.skipped_steps},
                       {"epoch", summary.position.epoch + 1},
                       {"examples_of_the_epoch", summary.position.examples},
                       {"validation_loss", loss_of(summary)},
                       {"parameters", parameters_in(summary.shapes)},
                       {"matrices", summary.shapes.size()},
                       {"vocabulary_hash", summary.vocabulary_hash},
                       {"vocabulary_size", vocabulary.size()},
                       {"data_checksum", summary.data_checksum},
                       {"bytes", size_of_file(path)},
                       {"config", Report::parse(summary.config, nullptr, false)}}};
}

bool holds_checkpoints(const std::string& folder) { return !CheckpointFolder(folder).steps().empty(); }

Inspection inspect_checkpoints(const std::string& folder) {
    const CheckpointFolder checkpoints(folder);
    Inspection found;
    Report rows = Report::array();
    for (const std::int64_t step : checkpoints.steps()) {
        rows.push_back(row_of(checkpoints.file_of(step), found.problems));
    }
    found.report = {{"kind", "checkpoints"}, {"count", rows.size()}, {"checkpoints", rows}};
    return found;
}

Inspection inspect_model(const std::string& folder) {
    const SavedModel saved = load_model(folder);
    const Transformer model = make_transformer(saved.card, saved.vocabulary);
    Config config;
    config.model = saved.card.model;
    const Report options = Report::parse(print_config(config));
    Report files = Report::array();
    for (const std::string_view name : kModelFiles) {
        if (fs::exists(inside(folder, name))) {
            files.push_back({{"file", name}, {"bytes", size_of_file(inside(folder, name))}});
        }
    }
    return {.report = {{"kind", "saved model"},
                       {"parameters", model.parameters().parameters()},
                       {"steps", saved.card.steps},
                       {"vocabulary_hash", saved.vocabulary.hash()},
                       {"vocabulary_size", saved.vocabulary.size()},
                       {"max_context_tokens", saved.card.max_context_tokens},
                       {"max_reply_tokens", saved.card.max_reply_tokens},
                       {"model", options["model"]},
                       {"files", files}}};
}

Inspection inspect_run(const std::string& folder) {
    Inspection found{.report = {{"kind", "output of a run"}}};
    add_section(found, "checkpoints", inspect_checkpoints(inside(folder, "checkpoints")));
    if (!fs::exists(inside(folder, "model"))) {
        found.report["model"] = "none: a training saves it at its end, `duologue export` makes it from a checkpoint";
        return found;
    }
    try {
        add_section(found, "model", inspect_model(inside(folder, "model")));
    } catch (const Error& problem) {
        found.problems.emplace_back(problem.what());
    }
    return found;
}

}  // namespace duologue
