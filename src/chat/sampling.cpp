// Temperature, top-k, top-p and repetition penalty.
#include "duologue/chat/sampling.h"

#include <algorithm>
#include <cmath>

#include "duologue/core/error.h"
#include "duologue/data/vocabulary.h"

namespace duologue {

namespace {

// In the steps before the softmax, `probability` holds a logit.
using Words = std::vector<WordProbability>;

bool likelier(const WordProbability& a, const WordProbability& b) {
    return a.probability != b.probability ? a.probability > b.probability : a.id < b.id;
}

Words allowed_words(std::span<const float> logits, MayEnd may_end) {
    Words words;
    words.reserve(logits.size());
    if (may_end == MayEnd::kYes) words.push_back({Vocabulary::kEnd, logits[Vocabulary::kEnd]});
    for (std::size_t id = Vocabulary::kSpecialTokens; id < logits.size(); ++id) {
        words.push_back({static_cast<std::int32_t>(id), logits[id]});
    }
    std::erase_if(words, [](const WordProbability& word) { return !std::isfinite(word.probability); });
    require(!words.empty(), ErrorCode::kData,
            "the model gives no word a finite probability: its parameters are not a trained model's");
    return words;
}

void penalise(Words& words, std::span<const std::int32_t> said, double penalty) {
    if (penalty == 1.0) return;
    for (WordProbability& word : words) {
        if (std::find(said.begin(), said.end(), word.id) == said.end()) continue;
        word.probability = word.probability > 0 ? word.probability / penalty : word.probability * penalty;
    }
}

void softmax(Words& words, double temperature) {
    const double highest = std::min_element(words.begin(), words.end(), likelier)->probability;
    double sum = 0.0;
    for (WordProbability& word : words) sum += word.probability = std::exp((word.probability - highest) / temperature);
    for (WordProbability& word : words) word.probability /= sum;
}

void normalise(Words& words) {
    double sum = 0.0;
    for (const WordProbability& word : words) sum += word.probability;
    for (WordProbability& word : words) word.probability /= sum;
}

void keep_top_p(Words& words, double top_p) {
    std::sort(words.begin(), words.end(), likelier);
    double sum = 0.0;
    std::size_t kept = 0;
    while (kept < words.size() && sum < top_p) sum += words[kept++].probability;
    words.resize(std::max<std::size_t>(kept, 1));
}

}  // namespace

Words candidates(std::span<const float> logits, std::span<const std::int32_t> said, const ChatConfig& config,
                 MayEnd may_end) {
    Words words = allowed_words(logits, may_end);
    penalise(words, said, config.repetition_penalty);
    const auto top_k = static_cast<std::size_t>(config.temperature == 0.0 ? 1 : config.top_k);
    if (top_k > 0 && top_k < words.size()) {
        std::partial_sort(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(top_k), words.end(), likelier);
        words.resize(top_k);
    }
    softmax(words, config.temperature == 0.0 ? 1.0 : config.temperature);
    if (config.top_p < 1.0) keep_top_p(words, config.top_p);
    normalise(words);
    return words;
}

std::int32_t choose(const Words& words, double uniform) {
    for (const WordProbability& word : words) {
        uniform -= word.probability;
        if (uniform < 0.0) return word.id;
    }
    return words.back().id;  // rounding: the probabilities summed to a little less than 1
}

Words likeliest(std::span<const float> logits, std::size_t count) {
    Words words;
    for (std::size_t id = 0; id < logits.size(); ++id) words.push_back({static_cast<std::int32_t>(id), logits[id]});
    softmax(words, 1.0);
    count = std::min(count, words.size());
    std::partial_sort(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(count), words.end(), likelier);
    words.resize(count);
    return words;
}

}  // namespace duologue
