// Generator: says a reply word by word.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "duologue/chat/sampling.h"
#include "duologue/config/config.h"
#include "duologue/data/vocabulary.h"

namespace duologue {

class IncrementalDecoder;

/// What a generator asks of a model; see IncrementalDecoder's functions of the same names.
struct NextWordModel {
    std::function<void(std::span<const std::int32_t> source)> begin;
    std::function<std::span<const float>(std::int32_t token)> step;
};

/// The decoder must outlive what is returned.
[[nodiscard]] NextWordModel next_word_model(IncrementalDecoder& decoder);

class Generator {
   public:
    /// `vocabulary` must outlive the generator. `max_reply_tokens` counts <eos>.
    Generator(NextWordModel model, const Vocabulary& vocabulary, std::int64_t max_reply_tokens);

    /// Called with the text that each word adds, its leading space included.
    using WordSaid = std::function<void(std::string_view text)>;

    /// The words of a reply to `source` (the context, at least one token), without special tokens; at least one. A pure
    /// function of model, source, `config` and `key`, except that it ends early when `interrupted` becomes true.
    [[nodiscard]] std::vector<std::int32_t> reply(std::span<const std::int32_t> source, const ChatConfig& config,
                                                  std::uint64_t key, const WordSaid& word_said,
                                                  const std::atomic<bool>& interrupted);

    /// The `count` likeliest next words of a reply to `source` that begins with `beginning`.
    [[nodiscard]] std::vector<WordProbability> next_words(std::span<const std::int32_t> source,
                                                          std::span<const std::int32_t> beginning, std::size_t count);

   private:
    NextWordModel model_;
    const Vocabulary& vocabulary_;
    std::int64_t max_reply_tokens_;
};

}  // namespace duologue
