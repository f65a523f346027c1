// Which checkpoint a run goes on from, which are kept, and what is refused.
#include "duologue/train/checkpoint.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <string_view>

#include "duologue/core/error.h"

namespace duologue {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kPrefix = "step-";
constexpr std::string_view kSuffix = ".h5";

// The step of "step-000001200.h5"; none for other names.
std::optional<std::int64_t> step_of(const std::string& name) {
    if (!name.starts_with(kPrefix) || !name.ends_with(kSuffix)) return std::nullopt;
    const std::string_view digits =
        std::string_view(name).substr(kPrefix.size(), name.size() - kPrefix.size() - kSuffix.size());
    std::int64_t step = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), step);
    if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
    return step;
}

std::string describe(const ParameterShape& shape) {
    return fmt::format("{} of {} x {} at element {}", shape.name, shape.rows, shape.columns, shape.offset);
}

void require_same_shapes(const std::vector<ParameterShape>& stored, const std::vector<ParameterShape>& wanted,
                         const std::string& path) {
    for (std::size_t i = 0; i < std::min(stored.size(), wanted.size()); ++i) {
        require(stored[i] == wanted[i], ErrorCode::kConfiguration,
                "'{}' holds {} where the configured model has {}; set the model section as it was, or another "
                "output.path",
                path, describe(stored[i]), describe(wanted[i]));
    }
    require(stored.size() == wanted.size(), ErrorCode::kConfiguration,
            "'{}' holds {} parameter matrices, the configured model has {}; set the model section as it was, or "
            "another output.path",
            path, stored.size(), wanted.size());
}

void require_schema(const CheckpointSummary& summary, const std::string& path) {
    require(summary.schema_version == CheckpointSummary::kSchemaVersion, ErrorCode::kData,
            "'{}' has schema version {}, this program reads {}; go on with the program that wrote it, or set another "
            "output.path",
            path, summary.schema_version, CheckpointSummary::kSchemaVersion);
}

// Runs `read`; where the file is damaged, says so to `log` (null: to nobody) and gives nothing.
template <class Read>
auto if_whole(const Read& read, const Log* log) -> std::optional<decltype(read())> {
    try {
        return read();
    } catch (const Error& error) {
        if (error.code() == ErrorCode::kInternal) throw;
        if (log != nullptr) log->warning("passing over a checkpoint: {}", error.what());
        return std::nullopt;
    }
}

}  // namespace

void require_fits(const CheckpointSummary& summary, const CheckpointDemands& demands, const std::string& path) {
    require(summary.vocabulary_hash == demands.vocabulary_hash, ErrorCode::kData,
            "'{}' was trained with the vocabulary {}, the data has {}; set data.path as it was, or another output.path",
            path, summary.vocabulary_hash, demands.vocabulary_hash);
    require(summary.data_checksum == demands.data_checksum, ErrorCode::kData,
            "'{}' stands at a position in the data {}, data.path now holds {}; set data.path as it was, or another "
            "output.path",
            path, summary.data_checksum, demands.data_checksum);
    require_same_shapes(summary.shapes, demands.shapes, path);
}

std::string CheckpointFolder::file_of(std::int64_t step) const {
    return (fs::path(path_) / fmt::format("{}{:09d}{}", kPrefix, step, kSuffix)).string();
}

std::vector<std::int64_t> CheckpointFolder::steps() const {
    std::vector<std::int64_t> steps;
    std::error_code missing;
    for (const auto& entry : fs::directory_iterator(path_, missing)) {
        if (const auto step = step_of(entry.path().filename().string())) steps.push_back(*step);
    }
    std::sort(steps.begin(), steps.end());
    return steps;
}

void CheckpointFolder::remove_unfinished() const {
    std::error_code missing;
    for (const auto& entry : fs::directory_iterator(path_, missing)) {
        const std::string name = entry.path().filename().string();
        if (name.starts_with(kPrefix) && name.ends_with(".part")) fs::remove(entry.path(), missing);
    }
}

void CheckpointFolder::save(const Checkpoint& checkpoint, std::int64_t keep_last) const {
    std::error_code error;
    fs::create_directories(path_, error);
    require(!error, ErrorCode::kInputOutput, "cannot make the folder '{}': {}", path_, error.message());
    write_checkpoint(file_of(checkpoint.summary.step), checkpoint);
    remove_surplus(keep_last);
}

void CheckpointFolder::remove_surplus(std::int64_t keep_last) const {
    const std::vector<std::int64_t> all = steps();
    const auto surplus = static_cast<std::int64_t>(all.size()) - keep_last;
    if (surplus <= 0) return;
    std::optional<std::int64_t> best;
    double best_loss = 0.0;
    std::vector<std::int64_t> readable;
    for (const std::int64_t step : all) {
        const auto summary = if_whole([&] { return read_checkpoint_summary(file_of(step)); }, nullptr);
        if (!summary) continue;
        readable.push_back(step);
        if (!summary->validation_loss || (best && *summary->validation_loss >= best_loss)) continue;
        best = step;
        best_loss = *summary->validation_loss;
    }
    for (std::int64_t i = 0; i + keep_last < static_cast<std::int64_t>(readable.size()); ++i) {
        const std::int64_t step = readable[static_cast<std::size_t>(i)];
        std::error_code ignored;  // a file that cannot be removed is only in the way
        if (step != best) fs::remove(file_of(step), ignored);
    }
}

std::optional<Checkpoint> CheckpointFolder::newest(const CheckpointDemands& demands, const Log& log) const {
    std::vector<std::int64_t> all = steps();
    std::reverse(all.begin(), all.end());
    for (const std::int64_t step : all) {
        const std::string path = file_of(step);
        const auto summary = if_whole([&] { return read_checkpoint_summary(path); }, &log);
        if (!summary) continue;
        require_schema(*summary, path);
        require_fits(*summary, demands, path);
        if (auto checkpoint = if_whole([&] { return read_checkpoint(path); }, &log)) return checkpoint;
    }
    require(all.empty(), ErrorCode::kData,
            "each of the {} checkpoints in '{}' is damaged; remove them to begin anew, or set another output.path",
            all.size(), path_);
    return std::nullopt;
}

}  // namespace duologue
