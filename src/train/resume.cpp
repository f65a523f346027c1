// Rank 0 reads and decides, the others receive.
#include "train/resume.h"

#include <nlohmann/json.hpp>
#include <sstream>

#include "duologue/core/error.h"
#include "duologue/core/hash.h"

namespace duologue {

namespace {

std::string to_text(const ResumePoint& point) {
    const std::string best = point.best_validation_loss ? fmt::format(" {}", *point.best_validation_loss) : "";
    return fmt::format("{} {} {} {}{}", point.step, point.skipped_steps, point.position.epoch, point.position.examples,
                       best);
}

ResumePoint from_text(const std::string& text) {
    ResumePoint point;
    std::istringstream words(text);
    words >> point.step >> point.skipped_steps >> point.position.epoch >> point.position.examples;
    if (double best = 0.0; words >> best) point.best_validation_loss = best;
    return point;
}

std::optional<double> best_validation_loss(const CheckpointFolder& folder) {
    std::optional<double> best;
    for (const std::int64_t step : folder.steps()) {
        try {
            const auto loss = read_checkpoint_summary(folder.file_of(step)).validation_loss;
            if (loss && (!best || *loss < *best)) best = loss;
        } catch (const Error&) {
            continue;  // damaged: reported where it is passed over
        }
    }
    return best;
}

void require_sizes(const Checkpoint& checkpoint, std::int64_t elements, const std::string& path) {
    for (const auto* values : {&checkpoint.values, &checkpoint.first, &checkpoint.second}) {
        require(static_cast<std::int64_t>(values->size()) == elements, ErrorCode::kData,
                "'{}' holds {} values where the model has {}", path, values->size(), elements);
    }
}

const float* values_of(const Checkpoint& checkpoint, StatePart part) {
    if (part == StatePart::kValues) return checkpoint.values.data();
    return part == StatePart::kFirst ? checkpoint.first.data() : checkpoint.second.data();
}

/// What rank 0 has read.
struct Newest {
    ResumePoint point;
    std::optional<Checkpoint> checkpoint;
};

// On rank 0 only.
Newest read_newest(const ResumeParts& parts, const ResumeSettings& settings) {
    const auto token = parts.world.busy("reading the newest checkpoint");
    parts.folder.remove_unfinished();
    const std::vector<std::int64_t> steps = parts.folder.steps();
    if (settings.resume == Resume::kNever) {
        require(steps.empty(), ErrorCode::kConfiguration,
                "checkpoint.resume is never, but '{}' is there; remove the checkpoints, set another output.path, or "
                "set checkpoint.resume=auto",
                parts.folder.file_of(steps.empty() ? 0 : steps.back()));
        return {};
    }
    std::optional<Checkpoint> newest = parts.folder.newest(settings.demands, parts.log);
    if (!newest) return {};
    const CheckpointSummary& summary = newest->summary;
    const std::string path = parts.folder.file_of(summary.step);
    require_sizes(*newest, parts.state.layout().elements(), path);
    parts.log.info("going on from '{}': step {}, epoch {}", path, summary.step, summary.position.epoch + 1);
    const std::string changed = changed_options(summary.config, settings.config_json);
    if (!changed.empty()) parts.log.info("options changed since that checkpoint: {}", changed);
    const ResumePoint point{.step = summary.step,
                            .skipped_steps = summary.skipped_steps,
                            .position = summary.position,
                            .best_validation_loss = best_validation_loss(parts.folder)};
    return {.point = point, .checkpoint = std::move(newest)};
}

// Rank 0 has the checkpoint, the others have none.
void share(const ResumeParts& parts, const std::optional<Checkpoint>& checkpoint) {
    for (const StatePart part : kStateParts) {
        const Tensor whole = parts.state.gradients();
        if (checkpoint) parts.backend.upload(whole, values_of(*checkpoint, part));
        parts.communicator.broadcast(whole, 0, "the broadcast of a checkpoint");
        parts.communicator.join();
        parts.state.take(part, parts.backend);
    }
}

}  // namespace

ResumePoint resume_or_begin(const ResumeParts& parts, const ResumeSettings& settings) {
    Newest newest;
    if (parts.communicator.rank() == 0) newest = read_newest(parts, settings);
    const ResumePoint point = from_text(parts.world.broadcast(to_text(newest.point), "reading the newest checkpoint"));
    if (point.step > 0) {
        share(parts, newest.checkpoint);
    } else {
        parts.backend.upload(parts.state.gradients(), initial_values(parts.table, settings.seed).data());
        parts.state.take(StatePart::kValues, parts.backend);
    }
    return point;
}

std::string hash_of_options(const std::string& config_json) { return hash_text(fnv1a(config_json)); }

std::string changed_options(const std::string& before, const std::string& after) {
    const auto flat = [](const std::string& text) {
        const auto parsed = nlohmann::json::parse(text, nullptr, false);
        return parsed.is_object() ? parsed.flatten() : nlohmann::json::object();
    };
    const nlohmann::json old_options = flat(before);
    const nlohmann::json new_options = flat(after);
    std::string changes;
    for (const auto& [pointer, value] : new_options.items()) {
        const nlohmann::json old_value = old_options.value(pointer, nlohmann::json());
        if (old_value == value) continue;
        std::string key = pointer.substr(1);
        for (char& letter : key) letter = letter == '/' ? '.' : letter;
        changes += fmt::format("{}{} {} -> {}", changes.empty() ? "" : ", ", key, old_value.dump(), value.dump());
    }
    return changes;
}

}  // namespace duologue
