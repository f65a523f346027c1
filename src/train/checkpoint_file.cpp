// One checkpoint as HDF5: attributes for the summary, checksummed datasets for the rest.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <span>
#include <string_view>

#include "data/hdf5_file.h"
#include "duologue/core/durable_file.h"
#include "duologue/core/error.h"
#include "duologue/core/hash.h"
#include "duologue/train/checkpoint.h"

namespace duologue {

namespace {

constexpr std::string_view kFormat = "duologue checkpoint";
constexpr const char* kValues = "values";
constexpr const char* kFirstMoment = "first_moment";
constexpr const char* kSecondMoment = "second_moment";
constexpr std::int64_t kPieceElements = std::int64_t{1} << 20;  // read back at a time

std::string shapes_to_json(const std::vector<ParameterShape>& shapes) {
    nlohmann::json list = nlohmann::json::array();
    for (const ParameterShape& shape : shapes) list.push_back({shape.name, shape.rows, shape.columns, shape.offset});
    return list.dump();
}

std::vector<ParameterShape> shapes_from_json(const std::string& text, const std::string& path) {
    std::vector<ParameterShape> shapes;
    try {
        for (const auto& item : nlohmann::json::parse(text)) {
            shapes.push_back({.name = item.at(0).get<std::string>(),
                              .rows = item.at(1).get<std::int64_t>(),
                              .columns = item.at(2).get<std::int64_t>(),
                              .offset = item.at(3).get<std::int64_t>()});
        }
    } catch (const nlohmann::json::exception& error) {
        fail(ErrorCode::kData, "'{}': the list of parameters is damaged: {}", path, error.what());
    }
    return shapes;
}

std::optional<double> loss_from_text(const std::string& text, const std::string& path) {
    if (text.empty()) return std::nullopt;
    double loss = 0.0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), loss);
    require(error == std::errc() && end == text.data() + text.size(), ErrorCode::kData,
            "'{}': the validation loss '{}' is not a number", path, text);
    return loss;
}

std::uint64_t continued_hash(std::span<const float> values, std::uint64_t state) {
    return fnv1a({reinterpret_cast<const char*>(values.data()), values.size_bytes()}, state);
}

std::uint64_t hash_of_head(const CheckpointSummary& summary, const std::string& vocabulary) {
    const std::string head = fmt::format("{} {} {} {} {}", summary.step, summary.skipped_steps, summary.position.epoch,
                                         summary.position.examples, shapes_to_json(summary.shapes));
    return fnv1a(vocabulary, fnv1a(summary.config, fnv1a(head)));
}

// Over everything that training goes on from, so that two files with the same hash continue in the same way.
std::string content_hash(const Checkpoint& checkpoint) {
    std::uint64_t hash = hash_of_head(checkpoint.summary, checkpoint.vocabulary);
    for (const auto* values : {&checkpoint.values, &checkpoint.first, &checkpoint.second}) {
        hash = continued_hash(*values, hash);
    }
    return hash_text(hash);
}

void write_summary(Hdf5File& file, const CheckpointSummary& summary) {
    file.write_attribute("format", kFormat);
    file.write_attribute("schema_version", summary.schema_version);
    file.write_attribute("step", summary.step);
    file.write_attribute("skipped_steps", summary.skipped_steps);
    file.write_attribute("epoch", summary.position.epoch);
    file.write_attribute("examples", summary.position.examples);
    file.write_attribute("validation_loss",
                         summary.validation_loss ? fmt::format("{}", *summary.validation_loss) : std::string());
    file.write_attribute("vocabulary_hash", summary.vocabulary_hash);
    file.write_attribute("data_checksum", summary.data_checksum);
    file.write_long_text("config", summary.config);
    file.write_long_text("parameters", shapes_to_json(summary.shapes));
}

CheckpointSummary read_summary(const Hdf5File& file) {
    require(file.has_attribute("format") && file.read_text("format") == kFormat, ErrorCode::kData,
            "'{}' is not a checkpoint", file.path());
    CheckpointSummary summary;
    summary.schema_version = file.read_integer("schema_version");
    if (summary.schema_version != CheckpointSummary::kSchemaVersion) return summary;
    summary.step = file.read_integer("step");
    summary.skipped_steps = file.read_integer("skipped_steps");
    summary.position = {.epoch = file.read_integer("epoch"), .examples = file.read_integer("examples")};
    summary.validation_loss = loss_from_text(file.read_text("validation_loss"), file.path());
    summary.vocabulary_hash = file.read_text("vocabulary_hash");
    summary.data_checksum = file.read_text("data_checksum");
    summary.config = file.read_long_text("config");
    summary.shapes = shapes_from_json(file.read_long_text("parameters"), file.path());
    return summary;
}

void write_content(const std::string& path, const Checkpoint& checkpoint) {
    Hdf5File file = Hdf5File::create(path);
    write_summary(file, checkpoint.summary);
    file.write_attribute("content_hash", content_hash(checkpoint));
    file.write_long_text("vocabulary", checkpoint.vocabulary);
    file.write(kValues, std::span<const float>(checkpoint.values));
    file.write(kFirstMoment, std::span<const float>(checkpoint.first));
    file.write(kSecondMoment, std::span<const float>(checkpoint.second));
    file.close();
}

// The content hash of what stands in a file, read in pieces: a second copy of a large model would not fit beside it.
std::string hash_of_file(const std::string& path) {
    const Hdf5File file = Hdf5File::open(path);
    std::uint64_t hash = hash_of_head(read_summary(file), file.read_long_text("vocabulary"));
    std::vector<float> piece;
    for (const char* name : {kValues, kFirstMoment, kSecondMoment}) {
        const std::int64_t length = file.length(name);
        for (std::int64_t begin = 0; begin < length; begin += kPieceElements) {
            piece.resize(static_cast<std::size_t>(std::min(kPieceElements, length - begin)));
            file.read_range(name, begin, std::span<float>(piece));
            hash = continued_hash(piece, hash);
        }
    }
    return hash_text(hash);
}

}  // namespace

std::vector<ParameterShape> parameter_shapes(const ParameterTable& table) {
    std::vector<ParameterShape> shapes;
    for (const ParameterEntry& entry : table.entries()) {
        shapes.push_back({.name = entry.name, .rows = entry.rows, .columns = entry.columns, .offset = entry.offset});
    }
    return shapes;
}

void write_checkpoint(const std::string& path, const Checkpoint& checkpoint) {
    PendingFile pending(path);
    write_content(pending.temporary_path(), checkpoint);
    const std::string written = hash_of_file(pending.temporary_path());
    require(written == content_hash(checkpoint), ErrorCode::kInputOutput,
            "'{}': the content {} was written and {} read back; the disk or the file system is faulty", path,
            content_hash(checkpoint), written);
    pending.commit();
}

std::int64_t bytes_of_writing_checkpoint(std::int64_t elements) {
    constexpr std::int64_t kDatasets = 3;
    constexpr std::int64_t kCacheBytes = std::int64_t{1} << 20;  // of chunks, for each dataset (H5Pset_chunk_cache)
    constexpr std::int64_t kBytes = sizeof(float);
    return kDatasets * (elements * kBytes + std::min(elements * kBytes, kCacheBytes)) +
           std::min(elements, kPieceElements) * kBytes;
}

CheckpointSummary read_checkpoint_summary(const std::string& path) { return read_summary(Hdf5File::open(path)); }

Checkpoint read_checkpoint(const std::string& path) {
    const Hdf5File file = Hdf5File::open(path);
    Checkpoint checkpoint;
    checkpoint.summary = read_summary(file);
    require(checkpoint.summary.schema_version == CheckpointSummary::kSchemaVersion, ErrorCode::kData,
            "'{}' has schema version {}, this program reads {}", path, checkpoint.summary.schema_version,
            CheckpointSummary::kSchemaVersion);
    checkpoint.vocabulary = file.read_long_text("vocabulary");
    checkpoint.values = file.read_all<float>(kValues);
    checkpoint.first = file.read_all<float>(kFirstMoment);
    checkpoint.second = file.read_all<float>(kSecondMoment);
    const std::string stored = file.read_text("content_hash");
    const std::string actual = content_hash(checkpoint);
    require(stored == actual, ErrorCode::kData, "'{}' is damaged: its content hash is {}, but the content gives {}",
            path, stored, actual);
    return checkpoint;
}

}  // namespace duologue
