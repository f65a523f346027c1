// VocabularyBuilder: counts words in bounded memory and picks the most frequent ones.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>

#include "duologue/data/vocabulary.h"

namespace duologue::preprocess {

/// Words longer than this never enter the vocabulary; nobody learns them and they would cost memory.
constexpr std::size_t kMaxWordBytes = 64;

/// How often each word stands in one block of text.
class WordCounts {
   public:
    void add(std::string_view word) {
        ++total_;
        if (word.size() > kMaxWordBytes) return;
        const auto found = counts_.find(word);
        if (found != counts_.end()) {
            ++found->second;
        } else {
            counts_.emplace(word, 1);
        }
    }
    [[nodiscard]] std::uint64_t total() const { return total_; }
    [[nodiscard]] const auto& counts() const { return counts_; }

   private:
    std::unordered_map<std::string, std::uint64_t, WordHash, std::equal_to<>> counts_;
    std::uint64_t total_ = 0;
};

/// Adds up blocks. When more than `max_distinct` words are held, the rarest are forgotten until half as many are left
/// (all words of one count go together): a forgotten word that returns counts from zero. count_error() says by how
/// much a count can be too low; while nothing was forgotten it is 0 and counts are exact. (The idea of Manku and
/// Motwani 2002, "Approximate frequency counts over data streams".) The result depends on the blocks and their order
/// only.
class VocabularyBuilder {
   public:
    static constexpr std::size_t kDefaultMaxDistinct = 1'000'000;
    explicit VocabularyBuilder(std::size_t max_distinct = kDefaultMaxDistinct) : max_distinct_(max_distinct) {}

    void add(const WordCounts& block);
    [[nodiscard]] std::uint64_t count_error() const { return count_error_; }
    [[nodiscard]] std::size_t distinct_words() const { return counts_.size(); }

    /// The at most `size` - 4 most frequent words with at least `min_count` occurrences; ties in code-point order.
    [[nodiscard]] Vocabulary build(WordRules rules, std::int64_t size, std::uint64_t min_count) const;

   private:
    void forget_rare_words();

    std::size_t max_distinct_;
    std::unordered_map<std::string, std::uint64_t, WordHash, std::equal_to<>> counts_;
    std::uint64_t total_ = 0;
    std::uint64_t count_error_ = 0;
};

}  // namespace duologue::preprocess
