// What duologue-preprocess is asked to do.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "duologue/data/vocabulary.h"
#include "readers/record_reader.h"

namespace duologue::preprocess {

enum class OnError : std::uint8_t { kStop, kSkip };

struct PreprocessOptions {
    std::vector<std::string> inputs;
    std::string output;  ///< folder; made where it does not exist
    Format format = Format::kAuto;
    std::string vocabulary;                ///< file of an earlier run to use again; empty: count words and make one
    std::int64_t vocabulary_size = 16000;  ///< special tokens included
    std::int64_t min_count = 1;
    WordRules rules;
    std::int64_t validation_percent = 2;
    std::int64_t shard_tokens = 16777216;
    int workers = 1;
    OnError on_error = OnError::kStop;
    std::uint64_t seed = 1;  ///< decides, with a conversation's content, on which side of the split it stands
};

}  // namespace duologue::preprocess
