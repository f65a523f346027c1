// Sample data: a few hundred conversations of random words, preprocessed into small shards.
#pragma once

#include <string>

#include "duologue/core/durable_file.h"
#include "duologue/core/log.h"
#include "duologue/core/random.h"
#include "options.h"
#include "preprocess.h"

namespace duologue {

/// JSON lines of `conversations` conversations of 1 to 12 turns of 1 to 20 words each.
inline std::string sample_json_lines(int conversations, std::uint64_t seed = 1) {
    RandomStream random(seed);
    std::string text;
    for (int i = 0; i < conversations; ++i) {
        text += "{\"turns\": [";
        const std::uint64_t turns = 1 + random.below(12);
        for (std::uint64_t turn = 0; turn < turns; ++turn) {
            text += turn == 0 ? "\"" : ", \"";
            const std::uint64_t words = 1 + random.below(20);
            for (std::uint64_t word = 0; word < words; ++word) text += fmt::format("w{} ", random.below(300));
            text += "\"";
        }
        text += "]}\n";
    }
    return text;
}

/// Preprocesses `text` into `folder`; shards of about `shard_tokens`.
inline Manifest preprocess_sample(const std::string& text, const std::string& folder, std::int64_t shard_tokens = 3000,
                                  int workers = 1) {
    const std::string input = folder + "-input.jsonl";
    write_file_durably(input, text);
    return preprocess::preprocess({.inputs = {input},
                                   .output = folder,
                                   .format = preprocess::Format::kJsonLines,
                                   .vocabulary = {},
                                   .vocabulary_size = 250,
                                   .min_count = 1,
                                   .rules = {},
                                   .validation_percent = 10,
                                   .shard_tokens = shard_tokens,
                                   .workers = workers,
                                   .on_error = preprocess::OnError::kStop,
                                   .seed = 1},
                                  Log(1, 1));
}

}  // namespace duologue
