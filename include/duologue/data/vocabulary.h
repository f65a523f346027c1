// Vocabulary: the most frequent words, their ids, the rules by which text became words, and a hash of all of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace duologue {

enum class Punctuation : std::uint8_t { kKeep, kDrop };
enum class LetterCase : std::uint8_t { kLower, kAsIs };

/// How text is split into words.
struct WordRules {
    Punctuation punctuation = Punctuation::kKeep;
    LetterCase letter_case = LetterCase::kLower;
    bool operator==(const WordRules&) const = default;
};

/// Lets maps with string keys be asked with a view.
struct WordHash {
    using is_transparent = void;
    [[nodiscard]] std::size_t operator()(std::string_view word) const { return std::hash<std::string_view>{}(word); }
};

class Vocabulary {
   public:
    static constexpr std::int32_t kPad = 0;
    static constexpr std::int32_t kStart = 1;
    static constexpr std::int32_t kEnd = 2;
    static constexpr std::int32_t kUnknown = 3;
    static constexpr std::int32_t kSpecialTokens = 4;

    struct Word {
        std::string text;
        std::uint64_t count = 0;
    };

    /// `words` in id order, without the special tokens. `total_words` counts every word seen, known or not.
    Vocabulary(WordRules rules, std::vector<Word> words, std::uint64_t total_words);

    [[nodiscard]] std::int32_t size() const { return static_cast<std::int32_t>(texts_.size()); }
    [[nodiscard]] std::int32_t id(std::string_view word) const;    ///< kUnknown where it is not known
    [[nodiscard]] const std::string& text(std::int32_t id) const;  ///< "<pad>", "<sos>", ... for special tokens
    [[nodiscard]] std::uint64_t count(std::int32_t id) const;      ///< 0 for special tokens
    [[nodiscard]] const WordRules& rules() const { return rules_; }
    [[nodiscard]] const std::string& hash() const { return hash_; }  ///< 16 hex digits over rules, words, order, counts
    [[nodiscard]] std::uint64_t total_words() const { return total_words_; }

    /// JSON text, one word a line, and back. parse(): kData naming `source` where it is damaged or the hash does not
    /// fit.
    [[nodiscard]] std::string serialize() const;
    [[nodiscard]] static Vocabulary parse(std::string_view json, const std::string& source);
    [[nodiscard]] static Vocabulary load(const std::string& path);

   private:
    /// A place of the index: part of the word's hash, so that most other words are told apart without a look at them.
    struct Slot {
        std::uint32_t hash = 0;
        std::int32_t id = -1;  ///< -1: free
    };

    [[nodiscard]] std::string compute_hash() const;
    void build_index();
    /// The slot that holds `word`, or the free one where it would stand.
    [[nodiscard]] std::size_t slot_of(std::string_view word, std::size_t hash) const;

    WordRules rules_;
    std::vector<std::string> texts_;
    std::vector<std::uint64_t> counts_;
    std::vector<Slot> index_;  ///< open addressing; a power of two, at most half full
    std::uint64_t total_words_ = 0;
    std::string hash_;
};

}  // namespace duologue
