// Adding up counts, forgetting rare words, choosing the frequent ones.
#include "vocabulary_builder.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace duologue::preprocess {

void VocabularyBuilder::add(const WordCounts& block) {
    total_ += block.total();
    for (const auto& [word, count] : block.counts()) counts_[word] += count;
    if (counts_.size() > max_distinct_) forget_rare_words();
}

void VocabularyBuilder::forget_rare_words() {
    std::vector<std::uint64_t> counts;
    counts.reserve(counts_.size());
    for (const auto& [word, count] : counts_) counts.push_back(count);
    const auto kept = static_cast<std::ptrdiff_t>(max_distinct_ / 2);
    std::nth_element(counts.begin(), counts.begin() + kept, counts.end(), std::greater<>());
    const std::uint64_t threshold = counts[static_cast<std::size_t>(kept)];  // words up to this count go
    std::erase_if(counts_, [&](const auto& entry) { return entry.second <= threshold; });
    count_error_ += threshold;
}

Vocabulary VocabularyBuilder::build(WordRules rules, std::int64_t size, std::uint64_t min_count) const {
    std::vector<Vocabulary::Word> words;
    for (const auto& [word, count] : counts_) {
        if (count >= min_count) words.push_back({.text = word, .count = count});
    }
    const auto wanted = static_cast<std::size_t>(std::max<std::int64_t>(size - Vocabulary::kSpecialTokens, 0));
    const auto chosen = words.begin() + static_cast<std::ptrdiff_t>(std::min(wanted, words.size()));
    // Bytes of UTF-8 compare as code points do.
    std::partial_sort(words.begin(), chosen, words.end(), [](const auto& a, const auto& b) {
        return std::pair(b.count, std::string_view(a.text)) < std::pair(a.count, std::string_view(b.text));
    });
    words.erase(chosen, words.end());
    return {rules, std::move(words), total_};
}

}  // namespace duologue::preprocess
