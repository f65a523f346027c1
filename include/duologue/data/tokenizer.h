// Tokenizer: text to words to ids, and back to readable text.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "duologue/data/vocabulary.h"

namespace duologue {

/// Calls `word` for each word of NFC-normalised `text`: a maximal run of letters, marks, digits and apostrophes; with
/// Punctuation::kKeep every other character that is not white space is a word of its own. The typographic apostrophe
/// (U+2019) is read as '. Returns -1, or the byte offset of the first invalid UTF-8 sequence and calls nothing. The
/// views last for one call.
std::int64_t for_each_word(std::string_view text, const WordRules& rules,
                           const std::function<void(std::string_view)>& word);

/// Ids of the words of `text`, without special tokens. kData where the text is not valid UTF-8.
[[nodiscard]] std::vector<std::int32_t> encode(const Vocabulary& vocabulary, std::string_view text);

/// Joins words with spaces where people write them: none before , . ! ? and the like, none after an opening bracket.
class Detokenizer {
   public:
    explicit Detokenizer(const Vocabulary& vocabulary) : vocabulary_(vocabulary) {}
    /// The text to append for `id`, leading space included; special tokens other than <unk> give "".
    [[nodiscard]] std::string next(std::int32_t id);

   private:
    const Vocabulary& vocabulary_;
    std::string previous_;
    bool joins_number_ = false;  ///< previous_ is a point or comma right after a number
    bool in_quote_ = false;
};

[[nodiscard]] std::string decode(const Vocabulary& vocabulary, std::span<const std::int32_t> ids);

}  // namespace duologue
