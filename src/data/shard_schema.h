// Names of what stands in a shard, shared by the one who writes it and the one who reads it.
#pragma once

namespace duologue::shard_schema {

constexpr const char* kFormat = "duologue-shard";

constexpr const char* kTokens = "tokens";                             // u16 or u32 [tokens]
constexpr const char* kTurnOffsets = "turn_offsets";                  // u64 [turns + 1], into tokens
constexpr const char* kConversationOffsets = "conversation_offsets";  // u64 [conversations + 1], into turns
constexpr const char* kSpeakers = "speakers";                         // u8 [turns]

constexpr const char* kFormatAttribute = "format";
constexpr const char* kVersionAttribute = "version";
constexpr const char* kSplitAttribute = "split";
constexpr const char* kVocabularyHashAttribute = "vocabulary_hash";
constexpr const char* kVocabularySizeAttribute = "vocabulary_size";
constexpr const char* kConversationsAttribute = "conversations";
constexpr const char* kTurnsAttribute = "turns";
constexpr const char* kTokensAttribute = "tokens_total";
constexpr const char* kUnknownAttribute = "unknown_tokens";
constexpr const char* kMaximumAttribute = "maximum_token";
constexpr const char* kSourcesAttribute = "sources";  // file names, one a line

}  // namespace duologue::shard_schema
