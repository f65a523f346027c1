// Words, vocabularies and readable text.
#include "duologue/data/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "duologue/core/durable_file.h"
#include "duologue/core/error.h"
#include "support/temporary_folder.h"

namespace duologue {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> words_of(std::string_view text, WordRules rules = {}) {
    std::vector<std::string> words;
    EXPECT_EQ(for_each_word(text, rules, [&](std::string_view word) { words.emplace_back(word); }), -1);
    return words;
}

Vocabulary vocabulary_of(std::vector<std::string> texts, WordRules rules = {}) {
    std::vector<Vocabulary::Word> words;
    for (std::string& text : texts) words.push_back({.text = std::move(text), .count = 10 - words.size()});
    return Vocabulary(rules, std::move(words), 100);
}

TEST(Words, AreRunsOfLettersDigitsAndApostrophes) {
    EXPECT_THAT(words_of("I don't know, R2D2!\tOK?"), ElementsAre("i", "don't", "know", ",", "r2d2", "!", "ok", "?"));
    EXPECT_THAT(words_of(""), ElementsAre());
    EXPECT_THAT(words_of(" \n\v "), ElementsAre());
}

TEST(Words, FollowTheRules) {
    EXPECT_THAT(words_of("Hi, Bob...", {.punctuation = Punctuation::kDrop}), ElementsAre("hi", "bob"));
    EXPECT_THAT(words_of("Hi, \u00c9", {.letter_case = LetterCase::kAsIs}), ElementsAre("Hi", ",", "\u00c9"));
}

TEST(Words, UnicodeTextIsComposedAndLowered) {
    EXPECT_THAT(words_of("CAFE\u0301 na\u00efve"), ElementsAre("caf\u00e9", "na\u00efve"));
    EXPECT_THAT(words_of("don\u2019t\u00a0stop\u2026"), ElementsAre("don't", "stop", "\u2026"));
    EXPECT_THAT(words_of("\u041f\u0440\u0438\u0432\u0435\u0442, \u4f60\u597d\u3002\u0663"),
                ElementsAre("\u043f\u0440\u0438\u0432\u0435\u0442", ",", "\u4f60\u597d", "\u3002", "\u0663"));
    EXPECT_THAT(words_of("\U0001F600ok"), ElementsAre("\U0001F600", "ok"));
}

TEST(Words, AsciiAndUnicodePathsAgree) {
    const std::string ascii = "Well, it's 7:30 -- \"fine\" (or not) #1 a_b [x] {y} ~ \\ ^ ` < > = + * & | % $ @ ; / ?";
    std::vector<std::string> expected = words_of(ascii);
    expected.emplace_back("\u00e9");
    EXPECT_EQ(words_of(ascii + " \u00e9"), expected);
}

TEST(Words, InvalidUtf8IsReportedWithItsOffset) {
    const auto ignore = [](std::string_view) { FAIL() << "a word of invalid text"; };
    EXPECT_EQ(for_each_word("ab\xff", {}, ignore), 2);
    EXPECT_EQ(for_each_word("\u00e9\xc0\xaf", {}, ignore), 2);  // overlong
    EXPECT_EQ(for_each_word("a\xed\xa0\x80", {}, ignore), 1);   // surrogate
    EXPECT_EQ(for_each_word("abc \xe4\xbd", {}, ignore), 4);    // cut off
    EXPECT_THROW((void)encode(vocabulary_of({"a"}), "\xff"), Error);
}

TEST(Vocabulary, MapsWordsBothWays) {
    const Vocabulary vocabulary = vocabulary_of({"the", "cat"});
    EXPECT_EQ(vocabulary.size(), 6);
    EXPECT_EQ(vocabulary.id("cat"), 5);
    EXPECT_EQ(vocabulary.id("dog"), Vocabulary::kUnknown);
    EXPECT_EQ(vocabulary.text(5), "cat");
    EXPECT_EQ(vocabulary.text(Vocabulary::kStart), "<sos>");
    EXPECT_EQ(vocabulary.count(4), 10U);
    EXPECT_EQ(vocabulary.count(Vocabulary::kUnknown), 0U);
    EXPECT_THROW((void)vocabulary.text(6), Error);
    EXPECT_THAT(encode(vocabulary, "The cat, the dog"), ElementsAre(4, 5, 3, 4, 3));
    EXPECT_THROW(vocabulary_of({"a", "a"}), Error);
}

TEST(Vocabulary, SurvivesItsFile) {
    const Vocabulary vocabulary = vocabulary_of({"the", "\"", "\\", "\u00e9"}, {.punctuation = Punctuation::kDrop});
    const Vocabulary copy = Vocabulary::parse(vocabulary.serialize(), "memory");
    EXPECT_EQ(copy.hash(), vocabulary.hash());
    EXPECT_EQ(copy.rules(), vocabulary.rules());
    EXPECT_EQ(copy.total_words(), 100U);
    EXPECT_EQ(copy.id("\u00e9"), 7);
}

TEST(Vocabulary, HashDependsOnWordsOrderAndRules) {
    const std::string hash = vocabulary_of({"a", "b"}).hash();
    EXPECT_EQ(hash.size(), 16U);
    EXPECT_EQ(vocabulary_of({"a", "b"}).hash(), hash);
    EXPECT_NE(vocabulary_of({"b", "a"}).hash(), hash);
    EXPECT_NE(vocabulary_of({"a", "b"}, {.letter_case = LetterCase::kAsIs}).hash(), hash);
}

TEST(Vocabulary, AnyFlippedBitOrTruncationIsAnError) {
    const std::string whole = vocabulary_of({"the", "cat", "sat"}).serialize();
    for (std::size_t i = 0; i + 2 < whole.size(); ++i) {
        EXPECT_THROW((void)Vocabulary::parse(whole.substr(0, i), "cut"), Error) << i;
        for (int bit = 0; bit < 8; ++bit) {
            std::string flipped = whole;
            flipped[i] = static_cast<char>(flipped[i] ^ (1 << bit));
            try {
                // White space between two values is the only place where a flip may be harmless.
                EXPECT_EQ(Vocabulary::parse(flipped, "file.json").serialize(), whole) << i;
            } catch (const Error& error) {
                EXPECT_EQ(error.code(), ErrorCode::kData);
                EXPECT_THAT(error.what(), HasSubstr("file.json"));
            }
        }
    }
}

TEST(Vocabulary, AMissingFileIsNamed) {
    const TemporaryFolder folder;
    try {
        (void)Vocabulary::load(folder / "none.json");
        FAIL() << "no error";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kInputOutput);
        EXPECT_THAT(error.what(), HasSubstr("none.json"));
    }
}

TEST(Detokenizer, WritesTextAsPeopleDo) {
    const std::vector<std::string> texts{
        "hello, how are you? (fine) \"good\" i said.",
        "it costs $ 3.50!",
        "a well-known and/or [x]: 7:30, ok...",
        "she said \"no\", he said \"yes\".",
    };
    std::vector<std::string> words;
    for (const std::string& text : texts) {
        for (const std::string& word : words_of(text)) {
            if (std::find(words.begin(), words.end(), word) == words.end()) words.push_back(word);
        }
    }
    const Vocabulary vocabulary = vocabulary_of(words);
    for (std::string text : texts) {
        if (const auto at = text.find("$ "); at != std::string::npos) text.erase(at + 1, 1);
        EXPECT_EQ(decode(vocabulary, encode(vocabulary, text)), text);
    }
}

TEST(Detokenizer, ShowsUnknownWordsAndHidesOtherSpecialTokens) {
    const Vocabulary vocabulary = vocabulary_of({"a"});
    const std::vector<std::int32_t> ids{Vocabulary::kStart, 4, Vocabulary::kUnknown,
                                        Vocabulary::kPad,   4, Vocabulary::kEnd};
    EXPECT_EQ(decode(vocabulary, ids), "a <unk> a");
}

}  // namespace
}  // namespace duologue
