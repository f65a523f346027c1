// Shards: the token files that duologue-preprocess writes, the manifest that lists them, and reading both with checks.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "duologue/data/context.h"
#include "duologue/data/vocabulary.h"

namespace duologue {

enum class Split : std::uint8_t { kTrain, kValidation };
[[nodiscard]] std::string_view name_of(Split split);  ///< "train", "validation"

constexpr std::int64_t kShardVersion = 1;
constexpr std::string_view kManifestFile = "manifest.json";
constexpr std::string_view kVocabularyFile = "vocabulary.json";

/// What a conversation file adds up to.
struct DataCounts {
    std::int64_t conversations = 0;
    std::int64_t turns = 0;
    std::int64_t tokens = 0;          ///< words; <sos> and <eos> are not stored
    std::int64_t unknown_tokens = 0;  ///< words that are not in the vocabulary
    bool operator==(const DataCounts&) const = default;
    DataCounts& operator+=(const DataCounts& other);
};

/// One shard as the manifest lists it.
struct ShardEntry {
    std::string file;  ///< relative to the manifest's folder
    Split split = Split::kTrain;
    DataCounts counts;
    std::int64_t bytes = 0;
    std::uint32_t checksum = 0;  ///< CRC-32 (IEEE 802.3, as zlib and gzip compute it) of the whole file
};

/// One input file as it was read.
struct SourceEntry {
    std::string file;  ///< without its folder
    std::string format;
    std::int64_t bytes = 0;  ///< on disk
    std::int64_t conversations = 0;
    std::int64_t skipped_records = 0;
};

/// manifest.json: everything that is known about a data folder without opening a shard.
struct Manifest {
    std::string vocabulary_hash;
    std::int64_t vocabulary_size = 0;
    std::uint64_t seed = 0;
    std::int64_t validation_percent = 0;
    std::int64_t dropped_turns = 0;          ///< turns without a word
    std::int64_t dropped_conversations = 0;  ///< conversations without a turn
    std::uint64_t word_count_error = 0;      ///< a word's count may be low by this much; 0: counts are exact
    std::vector<SourceEntry> sources;
    std::vector<ShardEntry> shards;  ///< in writing order, training first

    [[nodiscard]] DataCounts counts(Split split) const;
    [[nodiscard]] std::vector<ShardEntry> shards_of(Split split) const;

    [[nodiscard]] std::string serialize() const;
    /// kData naming `source` where it is damaged.
    [[nodiscard]] static Manifest parse(std::string_view json, const std::string& source);
    /// Reads `folder`/manifest.json. kInputOutput where it is missing, kData where it is damaged.
    [[nodiscard]] static Manifest load(const std::string& folder);
};

/// The vocabulary beside `manifest` in `folder`; kData where it is another one.
[[nodiscard]] Vocabulary load_vocabulary_of(const std::string& folder, const Manifest& manifest);

/// What a shard says of itself.
struct ShardHeader {
    std::int64_t version = 0;
    std::string vocabulary_hash;
    std::int64_t vocabulary_size = 0;
    std::vector<std::string> sources;  ///< input files, without their folders
    ShardEntry entry;                  ///< without a checksum, which only the manifest knows
};

/// kData where `path` is damaged or not a shard of this version, kInputOutput where it cannot be read.
[[nodiscard]] ShardHeader read_shard_header(const std::string& path);

/// CRC-32 of a file. kInputOutput where it cannot be read.
[[nodiscard]] std::uint32_t file_checksum(const std::string& path);

/// The conversations of one shard, in memory. Turn i of conversation c is turn first_turn(c) + i of the shard.
class Shard {
   public:
    /// Reads and checks a shard of `manifest`: size, checksum, version, vocabulary hash, counts, offsets, token range.
    /// kData naming the file and both values where something does not fit, kInputOutput where it cannot be read.
    [[nodiscard]] static Shard load(const std::string& folder, const Manifest& manifest, const ShardEntry& entry);
    /// Only what can be checked without reading the tokens: size, version, vocabulary hash, counts.
    static void check(const std::string& folder, const Manifest& manifest, const ShardEntry& entry);

    [[nodiscard]] std::int64_t conversations() const { return count_of(conversation_offsets_); }
    [[nodiscard]] std::int64_t turns() const { return count_of(turn_offsets_); }
    [[nodiscard]] std::int64_t tokens() const { return static_cast<std::int64_t>(turn_offsets_.back()); }

    [[nodiscard]] std::int64_t first_turn(std::int64_t conversation) const {
        return static_cast<std::int64_t>(conversation_offsets_[static_cast<std::size_t>(conversation)]);
    }
    [[nodiscard]] std::int64_t turn_length(std::int64_t turn) const {
        const auto i = static_cast<std::size_t>(turn);
        return static_cast<std::int64_t>(turn_offsets_[i + 1] - turn_offsets_[i]);
    }
    [[nodiscard]] std::uint8_t speaker(std::int64_t turn) const { return speakers_[static_cast<std::size_t>(turn)]; }
    /// The words of a turn; valid as long as the shard.
    [[nodiscard]] TurnTokens turn(std::int64_t turn) const {
        const auto begin = static_cast<std::size_t>(turn_offsets_[static_cast<std::size_t>(turn)]);
        return std::span(tokens_).subspan(begin, static_cast<std::size_t>(turn_length(turn)));
    }

   private:
    static std::int64_t count_of(const std::vector<std::uint64_t>& offsets) {
        return static_cast<std::int64_t>(offsets.size()) - 1;
    }

    std::vector<std::int32_t> tokens_;
    std::vector<std::uint64_t> turn_offsets_;
    std::vector<std::uint64_t> conversation_offsets_;
    std::vector<std::uint8_t> speakers_;
};

}  // namespace duologue
