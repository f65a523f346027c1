// Reading a shard and holding it against its manifest.
#include "duologue/data/shards.h"

#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <sstream>

#include "data/hdf5_file.h"
#include "data/shard_schema.h"
#include "duologue/core/error.h"

namespace duologue {

namespace {

namespace schema = shard_schema;

template <class Value>
void check_equal(const std::string& path, std::string_view what, const Value& found, const Value& expected) {
    require(found == expected, ErrorCode::kData,
            "'{}': its {} is {} where {} is expected; the file is damaged or belongs to other data: preprocess again",
            path, what, found, expected);
}

void check_attributes(const Hdf5File& file, const Manifest& manifest, const ShardEntry& entry) {
    const std::string& path = file.path();
    check_equal<std::string>(path, "format", file.read_text(schema::kFormatAttribute), schema::kFormat);
    check_equal(path, "schema version", file.read_integer(schema::kVersionAttribute), kShardVersion);
    check_equal(path, "vocabulary hash", file.read_text(schema::kVocabularyHashAttribute), manifest.vocabulary_hash);
    check_equal(path, "split", file.read_text(schema::kSplitAttribute), std::string(name_of(entry.split)));
    check_equal(path, "number of conversations", file.read_integer(schema::kConversationsAttribute),
                entry.counts.conversations);
    check_equal(path, "number of turns", file.read_integer(schema::kTurnsAttribute), entry.counts.turns);
    check_equal(path, "number of tokens", file.read_integer(schema::kTokensAttribute), entry.counts.tokens);
}

/// Offsets begin at 0, never fall and end at `total`.
void check_offsets(const std::string& path, std::string_view what, const std::vector<std::uint64_t>& offsets,
                   std::int64_t count, std::int64_t total) {
    check_equal(path, fmt::format("length of {}", what), static_cast<std::int64_t>(offsets.size()), count + 1);
    const bool sound = offsets.front() == 0 && offsets.back() == static_cast<std::uint64_t>(total) &&
                       std::is_sorted(offsets.begin(), offsets.end());
    require(sound, ErrorCode::kData, "'{}': {} does not rise from 0 to {}; the file is damaged: preprocess again", path,
            what, total);
}

template <class Token>
std::vector<std::int32_t> widened(const std::vector<Token>& tokens) {
    std::vector<std::int32_t> wide(tokens.size());
    std::transform(tokens.begin(), tokens.end(), wide.begin(),
                   [](Token token) { return static_cast<std::int32_t>(token); });
    return wide;
}

std::vector<std::int32_t> read_tokens(const Hdf5File& file, std::int64_t count, std::int64_t vocabulary_size) {
    std::vector<std::int32_t> tokens = file.type(schema::kTokens) == Hdf5Type::kU16
                                           ? widened(file.read_all<std::uint16_t>(schema::kTokens))
                                           : widened(file.read_all<std::uint32_t>(schema::kTokens));
    check_equal(file.path(), "length of tokens", std::ssize(tokens), count);
    for (const std::int32_t token : tokens) {
        require(token >= 0 && token < vocabulary_size, ErrorCode::kData,
                "'{}': it holds the token {} where the vocabulary has {}; preprocess the data again", file.path(),
                token, vocabulary_size);
    }
    return tokens;
}

std::vector<std::string> lines_of(const std::string& text) {
    std::vector<std::string> lines;
    std::istringstream stream(text);
    for (std::string line; std::getline(stream, line);) lines.push_back(line);
    return lines;
}

/// Opens a shard and holds everything but its datasets against the manifest.
Hdf5File open_checked(const std::string& path, const Manifest& manifest, const ShardEntry& entry) {
    Hdf5File file = Hdf5File::open(path);
    check_attributes(file, manifest, entry);
    check_equal(path, "size in bytes", static_cast<std::int64_t>(std::filesystem::file_size(path)), entry.bytes);
    return file;
}

}  // namespace

std::uint32_t file_checksum(const std::string& path) {
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), &std::fclose);
    require(file != nullptr, ErrorCode::kInputOutput, "cannot open '{}' for reading: {}", path, std::strerror(errno));
    std::vector<unsigned char> piece(1 << 20);
    uLong checksum = crc32(0, nullptr, 0);
    for (;;) {
        const std::size_t count = std::fread(piece.data(), 1, piece.size(), file.get());
        checksum = crc32(checksum, piece.data(), static_cast<uInt>(count));
        if (count < piece.size()) break;
    }
    require(std::ferror(file.get()) == 0, ErrorCode::kInputOutput, "cannot read '{}': {}", path, std::strerror(errno));
    return static_cast<std::uint32_t>(checksum);
}

Vocabulary load_vocabulary_of(const std::string& folder, const Manifest& manifest) {
    const std::string path = fmt::format("{}/{}", folder, kVocabularyFile);
    Vocabulary vocabulary = Vocabulary::load(path);
    require(vocabulary.hash() == manifest.vocabulary_hash, ErrorCode::kData,
            "'{}' has the hash {}, the manifest beside it says {}; they belong to different data: preprocess again",
            path, vocabulary.hash(), manifest.vocabulary_hash);
    return vocabulary;
}

ShardHeader read_shard_header(const std::string& path) {
    const Hdf5File file = Hdf5File::open(path);
    check_equal<std::string>(path, "format", file.read_text(schema::kFormatAttribute), schema::kFormat);
    check_equal(path, "schema version", file.read_integer(schema::kVersionAttribute), kShardVersion);
    const std::string split = file.read_text(schema::kSplitAttribute);
    return {.version = kShardVersion,
            .vocabulary_hash = file.read_text(schema::kVocabularyHashAttribute),
            .vocabulary_size = file.read_integer(schema::kVocabularySizeAttribute),
            .sources = lines_of(file.read_text(schema::kSourcesAttribute)),
            .entry = {.file = std::filesystem::path(path).filename().string(),
                      .split = split == name_of(Split::kValidation) ? Split::kValidation : Split::kTrain,
                      .counts = {.conversations = file.read_integer(schema::kConversationsAttribute),
                                 .turns = file.read_integer(schema::kTurnsAttribute),
                                 .tokens = file.read_integer(schema::kTokensAttribute),
                                 .unknown_tokens = file.read_integer(schema::kUnknownAttribute)},
                      .bytes = static_cast<std::int64_t>(std::filesystem::file_size(path))}};
}

void Shard::check(const std::string& folder, const Manifest& manifest, const ShardEntry& entry) {
    (void)open_checked(folder + "/" + entry.file, manifest, entry);
}

Shard Shard::load(const std::string& folder, const Manifest& manifest, const ShardEntry& entry) {
    const std::string path = folder + "/" + entry.file;
    const Hdf5File file = open_checked(path, manifest, entry);
    check_equal(path, "CRC-32", fmt::format("{:08x}", file_checksum(path)), fmt::format("{:08x}", entry.checksum));
    Shard shard;
    shard.turn_offsets_ = file.read_all<std::uint64_t>(schema::kTurnOffsets);
    shard.conversation_offsets_ = file.read_all<std::uint64_t>(schema::kConversationOffsets);
    shard.speakers_ = file.read_all<std::uint8_t>(schema::kSpeakers);
    check_offsets(path, "turn_offsets", shard.turn_offsets_, entry.counts.turns, entry.counts.tokens);
    check_offsets(path, "conversation_offsets", shard.conversation_offsets_, entry.counts.conversations,
                  entry.counts.turns);
    check_equal(path, "length of speakers", static_cast<std::int64_t>(shard.speakers_.size()), entry.counts.turns);
    shard.tokens_ = read_tokens(file, entry.counts.tokens, manifest.vocabulary_size);
    return shard;
}

}  // namespace duologue
