// ShardWriter: conversations of token ids into a sequence of HDF5 shards that come into being together, at the end.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "data/hdf5_file.h"
#include "duologue/core/durable_file.h"
#include "duologue/data/shards.h"

namespace duologue::preprocess {

/// Conversations one after the other, as one worker leaves them: `turn_lengths` and `speakers` for all turns,
/// `conversation_turns` for all conversations.
struct EncodedConversations {
    std::vector<std::uint32_t> tokens;
    std::vector<std::uint32_t> turn_lengths;
    std::vector<std::uint8_t> speakers;
    std::vector<std::uint32_t> conversation_turns;
};

/// One conversation inside of those.
struct ConversationView {
    std::span<const std::uint32_t> tokens;
    std::span<const std::uint32_t> turn_lengths;
    std::span<const std::uint8_t> speakers;
};

struct ShardWriterOptions {
    std::string folder;
    Split split = Split::kTrain;
    std::string vocabulary_hash;
    std::int64_t vocabulary_size = 0;
    std::int64_t shard_tokens = 0;  ///< a shard is closed when it holds this many
};

class ShardWriter {
   public:
    explicit ShardWriter(ShardWriterOptions options);
    ~ShardWriter();
    ShardWriter(const ShardWriter&) = delete;
    ShardWriter& operator=(const ShardWriter&) = delete;
    ShardWriter(ShardWriter&&) = delete;
    ShardWriter& operator=(ShardWriter&&) = delete;

    /// `source`: the file that the conversation comes from. kInputOutput where the disk refuses.
    void add(const ConversationView& conversation, const std::string& source);
    /// Closes the last shard and returns all of them; they still have temporary names.
    [[nodiscard]] std::vector<ShardEntry> finish();
    /// Gives the shards their final names. Without it nothing remains of them.
    void commit();

   private:
    struct OpenShard;
    void open_shard();
    void close_shard();

    ShardWriterOptions options_;
    std::unique_ptr<OpenShard> open_;
    std::vector<PendingFile> files_;
    std::vector<ShardEntry> entries_;
};

}  // namespace duologue::preprocess
