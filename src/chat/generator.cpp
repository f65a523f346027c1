// The loop that asks for the next word.
#include "duologue/chat/generator.h"

#include <algorithm>

#include "duologue/core/random.h"
#include "duologue/data/tokenizer.h"
#include "duologue/model/transformer.h"

namespace duologue {

NextWordModel next_word_model(IncrementalDecoder& decoder) {
    return {.begin = [&decoder](std::span<const std::int32_t> source) { decoder.begin(source); },
            .step = [&decoder](std::int32_t token) { return decoder.step(token); }};
}

Generator::Generator(NextWordModel model, const Vocabulary& vocabulary, std::int64_t max_reply_tokens)
    : model_(std::move(model)), vocabulary_(vocabulary), max_reply_tokens_(max_reply_tokens) {}

std::vector<std::int32_t> Generator::reply(std::span<const std::int32_t> source, const ChatConfig& config,
                                           std::uint64_t key, const WordSaid& word_said,
                                           const std::atomic<bool>& interrupted) {
    RandomStream random(key);
    Detokenizer detokenizer(vocabulary_);
    std::vector<std::int32_t> words;
    model_.begin(source);
    std::int32_t token = Vocabulary::kStart;
    while (std::ssize(words) + 1 < max_reply_tokens_ && !interrupted) {
        const MayEnd may_end = words.empty() ? MayEnd::kNo : MayEnd::kYes;
        token = choose(candidates(model_.step(token), words, config, may_end), random.uniform());
        if (token == Vocabulary::kEnd) break;
        words.push_back(token);
        word_said(detokenizer.next(token));
    }
    return words;
}

std::vector<WordProbability> Generator::next_words(std::span<const std::int32_t> source,
                                                   std::span<const std::int32_t> beginning, std::size_t count) {
    model_.begin(source);
    std::span<const float> logits = model_.step(Vocabulary::kStart);
    const auto room = static_cast<std::size_t>(max_reply_tokens_ - 1);
    for (const std::int32_t word : beginning.first(std::min(beginning.size(), room))) logits = model_.step(word);
    return likeliest(logits, count);
}

}  // namespace duologue
