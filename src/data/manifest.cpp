// manifest.json: writing, reading, adding up.
#include <nlohmann/json.hpp>

#include "duologue/core/durable_file.h"
#include "duologue/core/error.h"
#include "duologue/core/hash.h"
#include "duologue/data/shards.h"

namespace duologue {

namespace {

using nlohmann::ordered_json;

constexpr std::string_view kFormat = "duologue-data";

ordered_json to_json(const DataCounts& counts) {
    return {{"conversations", counts.conversations},
            {"turns", counts.turns},
            {"tokens", counts.tokens},
            {"unknown_tokens", counts.unknown_tokens}};
}

DataCounts counts_from(const ordered_json& value) {
    return {.conversations = value.at("conversations").get<std::int64_t>(),
            .turns = value.at("turns").get<std::int64_t>(),
            .tokens = value.at("tokens").get<std::int64_t>(),
            .unknown_tokens = value.at("unknown_tokens").get<std::int64_t>()};
}

ordered_json to_json(const ShardEntry& shard) {
    ordered_json value{{"file", shard.file}, {"split", name_of(shard.split)}};
    value.update(to_json(shard.counts));
    value["bytes"] = shard.bytes;
    value["crc32"] = fmt::format("{:08x}", shard.checksum);
    return value;
}

ShardEntry shard_from(const ordered_json& value) {
    const auto& split = value.at("split").get_ref<const std::string&>();
    require(split == name_of(Split::kTrain) || split == name_of(Split::kValidation), ErrorCode::kData,
            "unknown split '{}'", split);
    const auto& checksum = value.at("crc32").get_ref<const std::string&>();
    std::size_t used = 0;
    const unsigned long number = std::stoul(checksum, &used, 16);
    require(used == checksum.size() && used == 8, ErrorCode::kData, "'{}' is not a CRC-32", checksum);
    return {.file = value.at("file").get<std::string>(),
            .split = split == name_of(Split::kTrain) ? Split::kTrain : Split::kValidation,
            .counts = counts_from(value),
            .bytes = value.at("bytes").get<std::int64_t>(),
            .checksum = static_cast<std::uint32_t>(number)};
}

ordered_json to_json(const SourceEntry& source) {
    return {{"file", source.file},
            {"format", source.format},
            {"bytes", source.bytes},
            {"conversations", source.conversations},
            {"skipped_records", source.skipped_records}};
}

SourceEntry source_from(const ordered_json& value) {
    return {.file = value.at("file").get<std::string>(),
            .format = value.at("format").get<std::string>(),
            .bytes = value.at("bytes").get<std::int64_t>(),
            .conversations = value.at("conversations").get<std::int64_t>(),
            .skipped_records = value.at("skipped_records").get<std::int64_t>()};
}

template <class Entry>
ordered_json list_of(const std::vector<Entry>& entries) {
    ordered_json list = ordered_json::array();
    for (const Entry& entry : entries) list.push_back(to_json(entry));
    return list;
}

/// The hash of a manifest document without its own "hash" member.
std::string hash_of(const ordered_json& document) { return hash_text(fnv1a(document.dump())); }

Manifest manifest_from(ordered_json document) {
    require(document.at("format") == kFormat, ErrorCode::kData, "its format is {} where \"{}\" is expected",
            document.at("format").dump(), kFormat);
    require(document.at("version") == kShardVersion, ErrorCode::kData,
            "its version is {}; this program reads version {}", document.at("version").dump(), kShardVersion);
    const std::string stated = document.at("hash").get<std::string>();
    document.erase("hash");
    require(hash_of(document) == stated, ErrorCode::kData, "its content has the hash {} where it states {}",
            hash_of(document), stated);
    Manifest manifest{.vocabulary_hash = document.at("vocabulary_hash").get<std::string>(),
                      .vocabulary_size = document.at("vocabulary_size").get<std::int64_t>(),
                      .seed = document.at("seed").get<std::uint64_t>(),
                      .validation_percent = document.at("validation_percent").get<std::int64_t>(),
                      .dropped_turns = document.at("dropped_turns").get<std::int64_t>(),
                      .dropped_conversations = document.at("dropped_conversations").get<std::int64_t>(),
                      .word_count_error = document.at("word_count_error").get<std::uint64_t>(),
                      .sources = {},
                      .shards = {}};
    for (const ordered_json& source : document.at("sources")) manifest.sources.push_back(source_from(source));
    for (const ordered_json& shard : document.at("shards")) manifest.shards.push_back(shard_from(shard));
    return manifest;
}

}  // namespace

std::string_view name_of(Split split) { return split == Split::kTrain ? "train" : "validation"; }

DataCounts& DataCounts::operator+=(const DataCounts& other) {
    conversations += other.conversations;
    turns += other.turns;
    tokens += other.tokens;
    unknown_tokens += other.unknown_tokens;
    return *this;
}

DataCounts Manifest::counts(Split split) const {
    DataCounts sum;
    for (const ShardEntry& shard : shards) {
        if (shard.split == split) sum += shard.counts;
    }
    return sum;
}

std::vector<ShardEntry> Manifest::shards_of(Split split) const {
    std::vector<ShardEntry> chosen;
    for (const ShardEntry& shard : shards) {
        if (shard.split == split) chosen.push_back(shard);
    }
    return chosen;
}

std::string Manifest::serialize() const {
    ordered_json document{{"format", kFormat},
                          {"version", kShardVersion},
                          {"vocabulary_hash", vocabulary_hash},
                          {"vocabulary_size", vocabulary_size},
                          {"seed", seed},
                          {"validation_percent", validation_percent},
                          {"dropped_turns", dropped_turns},
                          {"dropped_conversations", dropped_conversations},
                          {"word_count_error", word_count_error},
                          {"train", to_json(counts(Split::kTrain))},
                          {"validation", to_json(counts(Split::kValidation))},
                          {"sources", list_of(sources)},
                          {"shards", list_of(shards)}};
    document["hash"] = hash_of(document);
    return document.dump(2) + "\n";
}

Manifest Manifest::parse(std::string_view json, const std::string& source) {
    const auto damaged = [&](const char* reason) {
        fail(ErrorCode::kData, "the manifest '{}' cannot be used: {}; preprocess the data again", source, reason);
    };
    try {
        return manifest_from(ordered_json::parse(json));
    } catch (const nlohmann::json::exception& problem) {
        damaged(problem.what());
    } catch (const std::logic_error& problem) {
        damaged(problem.what());
    } catch (const Error& problem) {
        damaged(problem.what());
    }
    fail(ErrorCode::kInternal, "the manifest '{}' was neither read nor refused", source);
}

Manifest Manifest::load(const std::string& folder) {
    const std::string path = fmt::format("{}/{}", folder, kManifestFile);
    return parse(read_file(path), path);
}

}  // namespace duologue
