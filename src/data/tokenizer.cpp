// Word splitting with a table for plain ASCII and ICU for the rest; joining words into readable text.
#include "duologue/data/tokenizer.h"

#include <unicode/bytestream.h>
#include <unicode/casemap.h>
#include <unicode/normalizer2.h>
#include <unicode/uchar.h>

#include <array>
#include <utility>

#include "data/utf8.h"
#include "duologue/core/error.h"

namespace duologue {

namespace {

enum class CharacterClass : std::uint8_t { kSpace, kWord, kOther };

constexpr UChar32 kTypographicApostrophe = 0x2019;

constexpr bool is_between(char c, char first, char last) { return c >= first && c <= last; }

constexpr CharacterClass ascii_class(char c) {
    if (c == ' ' || is_between(c, '\t', '\r')) return CharacterClass::kSpace;
    const bool word = is_between(c, 'a', 'z') || is_between(c, 'A', 'Z') || is_between(c, '0', '9') || c == '\'';
    return word ? CharacterClass::kWord : CharacterClass::kOther;
}

constexpr auto kAsciiClasses = [] {
    std::array<CharacterClass, 128> classes{};
    for (std::size_t i = 0; i < classes.size(); ++i) classes[i] = ascii_class(static_cast<char>(i));
    return classes;
}();

constexpr char ascii_lower(char c) { return is_between(c, 'A', 'Z') ? static_cast<char>(c + ('a' - 'A')) : c; }

CharacterClass class_of(UChar32 c) {
    if (c < 128) return kAsciiClasses[static_cast<std::size_t>(c)];
    if (c == kTypographicApostrophe) return CharacterClass::kWord;
    if (u_isUWhiteSpace(c) != 0) return CharacterClass::kSpace;
    const std::uint32_t category = U_GET_GC_MASK(c);
    return (category & (U_GC_L_MASK | U_GC_M_MASK | U_GC_ND_MASK)) != 0 ? CharacterClass::kWord
                                                                        : CharacterClass::kOther;
}

void check(UErrorCode status, const char* doing) {
    require(U_SUCCESS(status), ErrorCode::kInternal, "ICU cannot {}: {}", doing, u_errorName(status));
}

std::string composed(std::string_view text) {
    UErrorCode status = U_ZERO_ERROR;
    const icu::Normalizer2* nfc = icu::Normalizer2::getNFCInstance(status);
    check(status, "load its NFC tables");
    std::string result;
    icu::StringByteSink<std::string> sink(&result, static_cast<std::int32_t>(text.size()));
    nfc->normalizeUTF8(0, {text.data(), static_cast<std::int32_t>(text.size())}, sink, nullptr, status);
    check(status, "normalise text");
    return result;
}

std::string lowered(std::string_view text) {
    UErrorCode status = U_ZERO_ERROR;
    std::string result;
    icu::StringByteSink<std::string> sink(&result, static_cast<std::int32_t>(text.size()));
    icu::CaseMap::utf8ToLower("", 0, {text.data(), static_cast<std::int32_t>(text.size())}, sink, nullptr, status);
    check(status, "lower-case text");
    return result;
}

using WordFunction = std::function<void(std::string_view)>;

void split_ascii(std::string_view text, const WordRules& rules, const WordFunction& word) {
    std::string copy;
    if (rules.letter_case == LetterCase::kLower) {
        copy.resize(text.size());
        for (std::size_t i = 0; i < text.size(); ++i) copy[i] = ascii_lower(text[i]);
        text = copy;
    }
    const auto class_at = [&](std::size_t i) { return kAsciiClasses[static_cast<unsigned char>(text[i])]; };
    for (std::size_t i = 0; i < text.size();) {
        const std::size_t start = i;
        const CharacterClass kind = class_at(i++);
        if (kind == CharacterClass::kWord) {
            while (i < text.size() && class_at(i) == CharacterClass::kWord) ++i;
            word(text.substr(start, i - start));
        } else if (kind == CharacterClass::kOther && rules.punctuation == Punctuation::kKeep) {
            word(text.substr(start, 1));
        }
    }
}

void split_unicode(std::string_view valid_text, const WordRules& rules, const WordFunction& word) {
    std::string text = composed(valid_text);
    // Lower-casing can leave a sequence that composes, hence the second normalisation.
    if (rules.letter_case == LetterCase::kLower) text = composed(lowered(text));
    std::string run;
    const auto finish_run = [&] {
        if (!run.empty()) word(run);
        run.clear();
    };
    for (std::string_view rest = text; !rest.empty();) {
        const CodePoint point = decode_utf8(rest);
        const std::string_view bytes = rest.substr(0, point.bytes);
        rest.remove_prefix(point.bytes);
        const CharacterClass kind = class_of(point.value);
        if (kind == CharacterClass::kWord) {
            run += point.value == kTypographicApostrophe ? "'" : bytes;
            continue;
        }
        finish_run();
        if (kind == CharacterClass::kOther && rules.punctuation == Punctuation::kKeep) word(bytes);
    }
    finish_run();
}

bool is_one_of(std::string_view token, std::initializer_list<std::string_view> set) {
    for (const std::string_view candidate : set) {
        if (token == candidate) return true;
    }
    return false;
}

bool glued_to_the_left(std::string_view token) {
    return is_one_of(token, {".", ",", "!", "?", ";", ":", ")", "]", "}", "%", "-", "/", "_", "\u2026", "\u201d",
                             "\u2013", "\u00bb", "\u00b0"});
}
bool glued_to_the_right(std::string_view token) {
    return is_one_of(token, {"(", "[", "{", "$", "#", "@", "-", "/", "_", "\u201c", "\u2018", "\u2013", "\u00ab",
                             "\u00a3", "\u20ac"});
}
bool is_number(std::string_view token) {
    return !token.empty() && token.find_first_not_of("0123456789") == std::string_view::npos;
}

}  // namespace

std::int64_t for_each_word(std::string_view text, const WordRules& rules, const WordFunction& word) {
    if (is_ascii(text)) {
        split_ascii(text, rules, word);
        return -1;
    }
    const std::int64_t invalid = first_invalid_utf8(text);
    if (invalid < 0) split_unicode(text, rules, word);
    return invalid;
}

std::vector<std::int32_t> encode(const Vocabulary& vocabulary, std::string_view text) {
    std::vector<std::int32_t> ids;
    const std::int64_t invalid =
        for_each_word(text, vocabulary.rules(), [&](std::string_view word) { ids.push_back(vocabulary.id(word)); });
    require(invalid < 0, ErrorCode::kData, "the text is not valid UTF-8 at byte {}; convert it to UTF-8", invalid);
    return ids;
}

std::string Detokenizer::next(std::int32_t id) {
    if (id < Vocabulary::kSpecialTokens && id != Vocabulary::kUnknown) return "";
    const std::string& token = vocabulary_.text(id);
    const bool straight_quote = token == "\"";
    const bool closes_quote = straight_quote && in_quote_;
    const bool after_opening_quote = previous_ == "\"" && in_quote_;
    const bool glued = previous_.empty() || glued_to_the_left(token) || glued_to_the_right(previous_) || closes_quote ||
                       after_opening_quote || (joins_number_ && is_number(token));
    joins_number_ = is_one_of(token, {".", ",", ":"}) && is_number(previous_);
    if (straight_quote) in_quote_ = !in_quote_;
    previous_ = token;
    return glued ? token : " " + token;
}

std::string decode(const Vocabulary& vocabulary, std::span<const std::int32_t> ids) {
    Detokenizer detokenizer(vocabulary);
    std::string text;
    for (const std::int32_t id : ids) text += detokenizer.next(id);
    return text;
}

}  // namespace duologue
