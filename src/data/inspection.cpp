// Reports on what preprocessing wrote.
#include "duologue/data/inspection.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <span>

#include "data/examples.h"
#include "duologue/core/error.h"
#include "duologue/data/tokenizer.h"

namespace duologue {

namespace {

namespace fs = std::filesystem;

Report describe(const DataCounts& counts) {
    const auto tokens = static_cast<double>(std::max<std::int64_t>(counts.tokens, 1));
    return {{"conversations", counts.conversations},
            {"turns", counts.turns},
            {"tokens", counts.tokens},
            {"unknown_share", static_cast<double>(counts.unknown_tokens) / tokens}};
}

/// Words as they are trained on, special tokens included.
std::string tokens_text(const Vocabulary& vocabulary, std::span<const std::int32_t> ids) {
    std::string text;
    for (const std::int32_t id : ids) text += (text.empty() ? "" : " ") + vocabulary.text(id);
    return text;
}

/// What the decoder is to say. What is read but is no target stands in brackets.
std::string targets_text(const Vocabulary& vocabulary, const Batch& example) {
    std::string text;
    for (std::size_t row = 0; row < example.labels.size(); ++row) {
        if (row > 0) text += ' ';
        const bool counts = example.labels[row] >= 0;
        text += counts ? vocabulary.text(example.labels[row])
                       : fmt::format("[{}]", vocabulary.text(example.target.tokens.at(row + 1)));
    }
    return text;
}

/// The examples of one conversation: those of the whole shard that begin and end in it.
std::vector<Example> examples_of(const Shard& shard, std::int64_t conversation, const ExampleFormat& format) {
    std::vector<Example> examples;
    format.enumerate(shard, 0, examples);
    std::erase_if(examples, [&](const Example& example) {
        return example.begin < shard.first_turn(conversation) || example.begin >= shard.first_turn(conversation + 1);
    });
    return examples;
}

std::string folder_of(const std::string& path) {
    const std::string folder = fs::path(path).parent_path().string();
    return folder.empty() ? "." : folder;
}

/// The manifest's entry of a shard; nothing where it lists no file of this name.
const ShardEntry* entry_of(const Manifest& manifest, const std::string& path) {
    const std::string name = fs::path(path).filename().string();
    const auto found = std::find_if(manifest.shards.begin(), manifest.shards.end(),
                                    [&](const ShardEntry& entry) { return entry.file == name; });
    return found == manifest.shards.end() ? nullptr : &*found;
}

Report describe_sources(const Manifest& manifest) {
    Report rows = Report::array();
    for (const SourceEntry& source : manifest.sources) {
        rows.push_back({{"file", source.file},
                        {"format", source.format},
                        {"bytes", source.bytes},
                        {"conversations", source.conversations},
                        {"skipped_records", source.skipped_records}});
    }
    return rows;
}

Report describe_entry(const ShardEntry& entry, const std::string& state) {
    return {{"file", entry.file},
            {"split", name_of(entry.split)},
            {"conversations", entry.counts.conversations},
            {"turns", entry.counts.turns},
            {"tokens", entry.counts.tokens},
            {"bytes", entry.bytes},
            {"crc32", fmt::format("{:08x}", entry.checksum)},
            {"state", state}};
}

}  // namespace

Report describe_vocabulary(const Vocabulary& vocabulary) {
    Report most_frequent = Report::array();
    constexpr std::int32_t kShown = 10;
    for (std::int32_t id = Vocabulary::kSpecialTokens;
         id < std::min(vocabulary.size(), Vocabulary::kSpecialTokens + kShown); ++id) {
        most_frequent.push_back({{"id", id}, {"word", vocabulary.text(id)}, {"count", vocabulary.count(id)}});
    }
    return {{"kind", "vocabulary"},
            {"hash", vocabulary.hash()},
            {"size", vocabulary.size()},
            {"punctuation", vocabulary.rules().punctuation == Punctuation::kKeep ? "keep" : "drop"},
            {"letter_case", vocabulary.rules().letter_case == LetterCase::kLower ? "lower" : "as is"},
            {"words_counted", vocabulary.total_words()},
            {"most_frequent", most_frequent}};
}

InspectedShard inspect_shard(const std::string& path) {
    const std::string folder = folder_of(path);
    ShardHeader header = read_shard_header(path);
    Manifest manifest{.vocabulary_hash = header.vocabulary_hash, .vocabulary_size = header.vocabulary_size};
    header.entry.checksum = file_checksum(path);
    bool listed = false;
    if (fs::exists(folder + "/" + std::string(kManifestFile))) {
        manifest = Manifest::load(folder);
        const ShardEntry* entry = entry_of(manifest, path);
        require(entry != nullptr, ErrorCode::kData,
                "'{}' is not listed in the manifest beside it, so nothing trains on it; move it away or preprocess "
                "again",
                path);
        header.entry = *entry;
        listed = true;
    }
    return {.header = header, .shard = Shard::load(folder, manifest, header.entry), .listed = listed};
}

Report describe_shard(const InspectedShard& inspected) {
    const ShardHeader& header = inspected.header;
    Report report{{"kind", "shard"},
                  {"version", header.version},
                  {"split", name_of(header.entry.split)},
                  {"vocabulary_hash", header.vocabulary_hash},
                  {"vocabulary_size", header.vocabulary_size}};
    report.update(describe(header.entry.counts));
    report["sources"] = header.sources;
    report["bytes"] = header.entry.bytes;
    report["crc32"] = fmt::format("{:08x}", header.entry.checksum);
    report["checked_against"] = inspected.listed ? "its own checksums and the manifest" : "its own checksums";
    return report;
}

InspectedData inspect_data(const std::string& folder) {
    const Manifest manifest = Manifest::load(folder);
    const Vocabulary vocabulary = load_vocabulary_of(folder, manifest);
    InspectedData result;
    Report shards = Report::array();
    for (const ShardEntry& entry : manifest.shards) {
        try {
            (void)Shard::load(folder, manifest, entry);
            shards.push_back(describe_entry(entry, "valid"));
        } catch (const Error& problem) {
            shards.push_back(describe_entry(entry, "damaged"));
            result.problems.emplace_back(problem.what());
        }
    }
    result.report = {{"kind", "preprocessed data"},
                     {"version", kShardVersion},
                     {"vocabulary_hash", vocabulary.hash()},
                     {"vocabulary_size", vocabulary.size()},
                     {"seed", manifest.seed},
                     {"dropped_turns", manifest.dropped_turns},
                     {"dropped_conversations", manifest.dropped_conversations},
                     {"train", describe(manifest.counts(Split::kTrain))},
                     {"validation", describe(manifest.counts(Split::kValidation))},
                     {"sources", describe_sources(manifest)},
                     {"shards", shards}};
    return result;
}

Report describe_conversation(const Shard& shard, std::int64_t conversation, const Vocabulary& vocabulary,
                             const DataConfig& config, ModelKind kind) {
    require(conversation >= 0 && conversation < shard.conversations(), ErrorCode::kConfiguration,
            "there is no conversation {}; they are counted from 0 to {}", conversation, shard.conversations() - 1);
    Report turns = Report::array();
    for (std::int64_t turn = shard.first_turn(conversation); turn < shard.first_turn(conversation + 1); ++turn) {
        turns.push_back({{"speaker", shard.speaker(turn)}, {"text", decode(vocabulary, shard.turn(turn))}});
    }
    Report examples = Report::array();
    const ExampleFormat format(config, kind);
    for (const Example& example : examples_of(shard, conversation, format)) {
        Batch batch;
        format.append(shard, example, batch);
        examples.push_back(
            {{"source", tokens_text(vocabulary, batch.source.tokens)}, {"target", targets_text(vocabulary, batch)}});
    }
    return {{"conversation", conversation}, {"turns", turns}, {"examples", examples}};
}

}  // namespace duologue
