// Word table, its hash, and its JSON form.
#include "duologue/data/vocabulary.h"

#include <array>
#include <bit>
#include <nlohmann/json.hpp>
#include <utility>

#include "duologue/core/durable_file.h"
#include "duologue/core/error.h"
#include "duologue/core/hash.h"
#include "duologue/core/random.h"

namespace duologue {

namespace {

constexpr std::string_view kFormat = "duologue-vocabulary";
constexpr int kVersion = 1;
constexpr std::array<std::string_view, Vocabulary::kSpecialTokens> kSpecialTexts{"<pad>", "<sos>", "<eos>", "<unk>"};

std::string_view name_of(Punctuation value) { return value == Punctuation::kKeep ? "keep" : "drop"; }
std::string_view name_of(LetterCase value) { return value == LetterCase::kLower ? "lower" : "as-is"; }

WordRules rules_from(const nlohmann::json& document) {
    const auto& punctuation = document.at("punctuation").get_ref<const std::string&>();
    const auto& letter_case = document.at("letter_case").get_ref<const std::string&>();
    const WordRules rules{.punctuation = punctuation == "keep" ? Punctuation::kKeep : Punctuation::kDrop,
                          .letter_case = letter_case == "lower" ? LetterCase::kLower : LetterCase::kAsIs};
    require(punctuation == name_of(rules.punctuation) && letter_case == name_of(rules.letter_case), ErrorCode::kData,
            "unknown rules: punctuation '{}', letter case '{}'", punctuation, letter_case);
    return rules;
}

Vocabulary vocabulary_from(const nlohmann::json& document) {
    require(document.at("format") == kFormat, ErrorCode::kData, "its format is {} where \"{}\" is expected",
            document.at("format").dump(), kFormat);
    require(document.at("version") == kVersion, ErrorCode::kData, "its version is {}; this program reads version {}",
            document.at("version").dump(), kVersion);
    std::vector<Vocabulary::Word> words;
    for (const nlohmann::json& entry : document.at("words")) {
        words.push_back({.text = entry.at(0).get<std::string>(), .count = entry.at(1).get<std::uint64_t>()});
    }
    Vocabulary vocabulary(rules_from(document), std::move(words), document.at("total_words").get<std::uint64_t>());
    const auto& stated = document.at("hash").get_ref<const std::string&>();
    require(vocabulary.hash() == stated, ErrorCode::kData, "its content has the hash {} where it states {}",
            vocabulary.hash(), stated);
    return vocabulary;
}

}  // namespace

Vocabulary::Vocabulary(WordRules rules, std::vector<Word> words, std::uint64_t total_words)
    : rules_(rules),
      texts_(kSpecialTexts.begin(), kSpecialTexts.end()),
      counts_(kSpecialTexts.size(), 0),
      total_words_(total_words) {
    for (Word& word : words) {
        texts_.push_back(std::move(word.text));
        counts_.push_back(word.count);
    }
    build_index();
    hash_ = compute_hash();
}

void Vocabulary::build_index() {
    index_.resize(std::bit_ceil(2 * texts_.size()));
    for (std::int32_t id = kSpecialTokens; id < size(); ++id) {
        const std::string& word = texts_[static_cast<std::size_t>(id)];
        const std::size_t hash = WordHash{}(word);
        Slot& slot = index_[slot_of(word, hash)];
        require(!word.empty() && slot.id < 0, ErrorCode::kData,
                "the word '{}' is empty or stands twice in the vocabulary", word);
        slot = {.hash = static_cast<std::uint32_t>(hash), .id = id};
    }
}

std::size_t Vocabulary::slot_of(std::string_view word, std::size_t hash) const {
    const std::size_t last = index_.size() - 1;
    // The upper half chooses the place, the lower half is kept in it.
    for (std::size_t at = (hash >> 32) & last;; at = (at + 1) & last) {
        const Slot& slot = index_[at];
        if (slot.id < 0) return at;
        if (slot.hash == static_cast<std::uint32_t>(hash) && texts_[static_cast<std::size_t>(slot.id)] == word)
            return at;
    }
}

std::string Vocabulary::compute_hash() const {
    std::uint64_t hash = fnv1a(fmt::format("{} {} {} {} {}\n", kFormat, kVersion, name_of(rules_.punctuation),
                                           name_of(rules_.letter_case), total_words_));
    for (std::size_t id = 0; id < texts_.size(); ++id) {
        hash = fnv1a(fmt::format("{} {}\n", texts_[id], counts_[id]), hash);
    }
    return hash_text(mix_key(hash, 0));
}

std::int32_t Vocabulary::id(std::string_view word) const {
    const std::int32_t id = index_[slot_of(word, WordHash{}(word))].id;
    return id < 0 ? kUnknown : id;
}

const std::string& Vocabulary::text(std::int32_t id) const {
    require(id >= 0 && id < size(), ErrorCode::kInternal, "token {} asked of a vocabulary of {}", id, size());
    return texts_[static_cast<std::size_t>(id)];
}

std::uint64_t Vocabulary::count(std::int32_t id) const {
    require(id >= 0 && id < size(), ErrorCode::kInternal, "token {} asked of a vocabulary of {}", id, size());
    return counts_[static_cast<std::size_t>(id)];
}

std::string Vocabulary::serialize() const {
    std::string text = fmt::format(
        "{{\n\"format\": \"{}\",\n\"version\": {},\n\"hash\": \"{}\",\n\"punctuation\": \"{}\",\n"
        "\"letter_case\": \"{}\",\n\"total_words\": {},\n\"words\": [",
        kFormat, kVersion, hash_, name_of(rules_.punctuation), name_of(rules_.letter_case), total_words_);
    for (std::int32_t id = kSpecialTokens; id < size(); ++id) {
        text += fmt::format("{}\n[{}, {}]", id == kSpecialTokens ? "" : ",", nlohmann::json(this->text(id)).dump(),
                            count(id));
    }
    text += "\n]\n}\n";
    return text;
}

Vocabulary Vocabulary::parse(std::string_view json, const std::string& source) {
    try {
        return vocabulary_from(nlohmann::json::parse(json));
    } catch (const nlohmann::json::exception& problem) {
        fail(ErrorCode::kData, "the vocabulary '{}' is damaged: {}; write or copy it again", source, problem.what());
    } catch (const Error& problem) {
        fail(ErrorCode::kData, "the vocabulary '{}' cannot be used: {}; write or copy it again", source,
             problem.what());
    }
}

Vocabulary Vocabulary::load(const std::string& path) { return parse(read_file(path), path); }

}  // namespace duologue
