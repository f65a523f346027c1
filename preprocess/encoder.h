// Encoding a block of records: words to ids, turns of one speaker joined, empty turns dropped, the split decided.
#pragma once

#include <cstdint>
#include <vector>

#include "block_source.h"
#include "duologue/data/shards.h"
#include "duologue/data/vocabulary.h"
#include "readers/record_parser.h"
#include "shard_writer.h"
#include "vocabulary_builder.h"

namespace duologue::preprocess {

/// What the first pass learns from a block.
struct CountedBlock {
    const InputFile* input = nullptr;
    std::int64_t bytes_done = 0;
    WordCounts words;
    std::vector<RecordProblem> problems;
};
[[nodiscard]] CountedBlock count_block(const Block& block, const WordRules& rules);

struct SplitRule {
    std::int64_t validation_percent = 0;
    std::uint64_t seed = 0;
};

/// What the second pass makes of a block.
struct EncodedBlock {
    const InputFile* input = nullptr;
    std::int64_t bytes_done = 0;
    EncodedConversations conversations;
    std::vector<Split> splits;            ///< one for each conversation; the same content always gets the same
    std::vector<std::uint64_t> contents;  ///< the hash of each, which with the seed decides its split
    std::vector<RecordProblem> problems;
    std::int64_t dropped_turns = 0;          ///< without a word
    std::int64_t dropped_conversations = 0;  ///< without a turn
};
[[nodiscard]] EncodedBlock encode_block(const Block& block, const Vocabulary& vocabulary, const SplitRule& rule);

}  // namespace duologue::preprocess
