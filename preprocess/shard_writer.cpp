// One open shard at a time, written through small buffers.
#include "shard_writer.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "data/shard_schema.h"
#include "duologue/core/error.h"
#include "duologue/data/vocabulary.h"

namespace duologue::preprocess {

namespace schema = shard_schema;

namespace {

constexpr std::size_t kBufferedElements = 256 * 1024;
constexpr std::int64_t kSmallVocabulary = 65536;  // tokens of at most this many words fit 16 bits

/// A dataset that is appended to in large pieces.
template <class T>
class Column {
   public:
    Column(Hdf5File& file, const char* name) : file_(file), name_(name) {
        file_.create_dataset(name_, Hdf5TypeOf<T>::kValue);
    }
    void add(T value) {
        values_.push_back(value);
        if (values_.size() >= kBufferedElements) flush();
    }
    void flush() {
        file_.append(name_, std::span<const T>(values_));
        values_.clear();
    }

   private:
    Hdf5File& file_;
    const char* name_;
    std::vector<T> values_;
};

}  // namespace

struct ShardWriter::OpenShard {
    Hdf5File file;
    std::optional<Column<std::uint16_t>> small_tokens;
    std::optional<Column<std::uint32_t>> large_tokens;
    Column<std::uint64_t> turn_offsets{file, schema::kTurnOffsets};
    Column<std::uint64_t> conversation_offsets{file, schema::kConversationOffsets};
    Column<std::uint8_t> speakers{file, schema::kSpeakers};
    std::set<std::string> sources;
    DataCounts counts;
    std::uint32_t maximum_token = 0;

    OpenShard(const std::string& path, std::int64_t vocabulary_size) : file(Hdf5File::create(path)) {
        if (vocabulary_size <= kSmallVocabulary) {
            small_tokens.emplace(file, schema::kTokens);
        } else {
            large_tokens.emplace(file, schema::kTokens);
        }
        turn_offsets.add(0);
        conversation_offsets.add(0);
    }

    void add_token(std::uint32_t token) {
        if (small_tokens) {
            small_tokens->add(static_cast<std::uint16_t>(token));
        } else {
            large_tokens->add(token);
        }
        maximum_token = std::max(maximum_token, token);
        counts.unknown_tokens += token == Vocabulary::kUnknown ? 1 : 0;
        ++counts.tokens;
    }

    void add(const ConversationView& conversation) {
        std::size_t next = 0;
        for (const std::uint32_t length : conversation.turn_lengths) {
            for (std::uint32_t i = 0; i < length; ++i) add_token(conversation.tokens[next++]);
            turn_offsets.add(static_cast<std::uint64_t>(counts.tokens));
            ++counts.turns;
        }
        for (const std::uint8_t speaker : conversation.speakers) speakers.add(speaker);
        conversation_offsets.add(static_cast<std::uint64_t>(counts.turns));
        ++counts.conversations;
    }

    void write_attributes(const ShardWriterOptions& options) {
        file.write_attribute(schema::kFormatAttribute, schema::kFormat);
        file.write_attribute(schema::kVersionAttribute, kShardVersion);
        file.write_attribute(schema::kSplitAttribute, name_of(options.split));
        file.write_attribute(schema::kVocabularyHashAttribute, options.vocabulary_hash);
        file.write_attribute(schema::kVocabularySizeAttribute, options.vocabulary_size);
        file.write_attribute(schema::kConversationsAttribute, counts.conversations);
        file.write_attribute(schema::kTurnsAttribute, counts.turns);
        file.write_attribute(schema::kTokensAttribute, counts.tokens);
        file.write_attribute(schema::kUnknownAttribute, counts.unknown_tokens);
        file.write_attribute(schema::kMaximumAttribute, static_cast<std::int64_t>(maximum_token));
        file.write_attribute(schema::kSourcesAttribute, fmt::format("{}", fmt::join(sources, "\n")));
    }

    void close(const ShardWriterOptions& options) {
        if (small_tokens) small_tokens->flush();
        if (large_tokens) large_tokens->flush();
        turn_offsets.flush();
        conversation_offsets.flush();
        speakers.flush();
        write_attributes(options);
        file.close();
    }
};

ShardWriter::ShardWriter(ShardWriterOptions options) : options_(std::move(options)) {}
ShardWriter::~ShardWriter() = default;

void ShardWriter::open_shard() {
    const std::string name = fmt::format("{}-{:05}.h5", name_of(options_.split), entries_.size());
    entries_.push_back({.file = name, .split = options_.split, .counts = {}, .bytes = 0, .checksum = 0});
    files_.emplace_back(options_.folder + "/" + name);
    open_ = std::make_unique<OpenShard>(files_.back().temporary_path(), options_.vocabulary_size);
}

void ShardWriter::close_shard() {
    open_->close(options_);
    const std::string& path = files_.back().temporary_path();
    entries_.back().counts = open_->counts;
    entries_.back().bytes = static_cast<std::int64_t>(std::filesystem::file_size(path));
    entries_.back().checksum = file_checksum(path);
    open_.reset();
}

void ShardWriter::add(const ConversationView& conversation, const std::string& source) {
    if (open_ == nullptr) open_shard();
    open_->add(conversation);
    open_->sources.insert(source);
    if (open_->counts.tokens >= options_.shard_tokens) close_shard();
}

std::vector<ShardEntry> ShardWriter::finish() {
    if (open_ != nullptr) close_shard();
    return entries_;
}

void ShardWriter::commit() {
    for (PendingFile& file : files_) file.commit();
    files_.clear();
}

}  // namespace duologue::preprocess
