// Sampling, replies, conversations and their commands, with a model made of a table.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <limits>

#include "duologue/chat/generator.h"
#include "duologue/chat/sampling.h"
#include "duologue/chat/session.h"
#include "duologue/core/durable_file.h"
#include "duologue/core/error.h"
#include "duologue/core/random.h"

namespace duologue {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

ChatConfig settings(double temperature, std::int64_t top_k = 0, double top_p = 1.0, double penalty = 1.0) {
    ChatConfig config;
    config.temperature = temperature;
    config.top_k = top_k;
    config.top_p = top_p;
    config.repetition_penalty = penalty;
    return config;
}

std::vector<std::int32_t> ids_of(const std::vector<WordProbability>& words) {
    std::vector<std::int32_t> ids;
    for (const WordProbability& word : words) ids.push_back(word.id);
    return ids;
}

// Logits of <pad> <sos> <eos> <unk> and the words 4 5 6 7.
const std::vector<float> kLogits{9.0F, 9.0F, 1.0F, 9.0F, 2.0F, 4.0F, 3.0F, -kInfinity};

TEST(Sampling, NeverSaysPadStartOrUnknown) {
    EXPECT_THAT(ids_of(candidates(kLogits, {}, settings(1.0), MayEnd::kYes)), ElementsAre(2, 4, 5, 6));
    EXPECT_THAT(ids_of(candidates(kLogits, {}, settings(1.0), MayEnd::kNo)), ElementsAre(4, 5, 6));
}

TEST(Sampling, ProbabilitiesAreTheSoftmaxAtTheTemperature) {
    const auto words = candidates(kLogits, {}, settings(0.5), MayEnd::kNo);
    const double sum = std::exp(4.0) + std::exp(8.0) + std::exp(6.0);
    EXPECT_NEAR(words[0].probability, std::exp(4.0) / sum, 1e-12);
    EXPECT_NEAR(words[1].probability, std::exp(8.0) / sum, 1e-12);
}

TEST(Sampling, GreedyTakesTheLikeliestAndTheLowerIdAtATie) {
    EXPECT_THAT(ids_of(candidates(kLogits, {}, settings(0.0), MayEnd::kYes)), ElementsAre(5));
    const std::vector<float> tie{0.0F, 0.0F, 0.0F, 0.0F, 1.0F, 3.0F, 3.0F};
    EXPECT_THAT(ids_of(candidates(tie, {}, settings(0.0), MayEnd::kYes)), ElementsAre(5));
}

TEST(Sampling, TopKAndTopPKeepTheLikeliest) {
    EXPECT_THAT(ids_of(candidates(kLogits, {}, settings(1.0, 2), MayEnd::kYes)), ElementsAre(5, 6));
    // softmax of 1 2 4 3: 0.032 0.087 0.644 0.237
    EXPECT_THAT(ids_of(candidates(kLogits, {}, settings(1.0, 0, 0.64), MayEnd::kYes)), ElementsAre(5));
    EXPECT_THAT(ids_of(candidates(kLogits, {}, settings(1.0, 0, 0.65), MayEnd::kYes)), ElementsAre(5, 6));
    EXPECT_THAT(ids_of(candidates(kLogits, {}, settings(1.0, 0, 1e-6), MayEnd::kYes)), ElementsAre(5));
    double sum = 0.0;
    for (const auto& word : candidates(kLogits, {}, settings(0.7, 3, 0.9), MayEnd::kYes)) sum += word.probability;
    EXPECT_NEAR(sum, 1.0, 1e-12);
}

TEST(Sampling, RepetitionPenaltyMakesSaidWordsLessLikely) {
    const std::vector<std::int32_t> said{5};
    const auto words = candidates(kLogits, said, settings(0.0, 0, 1.0, 2.0), MayEnd::kYes);
    EXPECT_THAT(ids_of(words), ElementsAre(6));
    const std::vector<float> negative{0.0F, 0.0F, -9.0F, 0.0F, -2.0F, -3.0F};
    const std::vector<std::int32_t> first{4};
    EXPECT_THAT(ids_of(candidates(negative, first, settings(0.0, 0, 1.0, 2.0), MayEnd::kYes)), ElementsAre(5));
}

TEST(Sampling, WordsComeAsOftenAsTheirProbability) {
    const auto words = candidates(kLogits, {}, settings(1.0), MayEnd::kYes);
    std::vector<int> counts(8);
    RandomStream random(7);
    constexpr int kDraws = 100000;
    for (int i = 0; i < kDraws; ++i) ++counts[static_cast<std::size_t>(choose(words, random.uniform()))];
    for (const WordProbability& word : words) {
        const double sigma = std::sqrt(kDraws * word.probability * (1 - word.probability));
        EXPECT_NEAR(counts[static_cast<std::size_t>(word.id)], kDraws * word.probability, 5 * sigma);
    }
}

TEST(Sampling, LogitsThatAreNotFiniteAreAnError) {
    const std::vector<float> broken(8, std::nanf(""));
    EXPECT_THROW((void)candidates(broken, {}, settings(1.0), MayEnd::kYes), Error);
}

TEST(Sampling, LikeliestIsTheModelsOwnDistribution) {
    const std::vector<float> logits{0.0F, 0.0F, 0.0F, std::log(2.0F), std::log(4.0F)};
    const auto words = likeliest(logits, 2);
    EXPECT_THAT(ids_of(words), ElementsAre(4, 3));
    EXPECT_NEAR(words[0].probability, 4.0 / 9.0, 1e-6);
}

/// Says the words of the source back in order and then ends; remembers what it was asked.
struct Parrot {
    std::vector<std::int32_t> source;
    std::vector<std::int32_t> read;
    std::vector<float> logits;
    std::int32_t vocabulary_size = 0;

    NextWordModel model() {
        return {.begin =
                    [this](std::span<const std::int32_t> tokens) {
                        source.assign(tokens.begin(), tokens.end());
                        read.clear();
                    },
                .step = [this](std::int32_t token) -> std::span<const float> {
                    read.push_back(token);
                    logits.assign(static_cast<std::size_t>(vocabulary_size), 0.0F);
                    const std::size_t at = std::min(read.size(), source.size()) - 1;
                    logits[static_cast<std::size_t>(source[at])] = 20.0F;
                    return logits;
                }};
    }
};

class Chat : public testing::Test {
   protected:
    Chat() { parrot_.vocabulary_size = vocabulary_.size(); }

    AfterLine say(std::string_view line) {
        reply_.clear();
        notices_.clear();
        const SessionOutput output{.reply = [this](std::string_view text) { reply_ += text; },
                                   .end_reply = [this] { ++replies_; },
                                   .notice = [this](std::string_view text) { notices_.emplace_back(text); }};
        return session_.handle(line, output, interrupted_);
    }

    Vocabulary vocabulary_{{}, {{"hello", 9}, {"there", 8}, {"i", 7}, {"like", 6}, {"tea", 5}, {".", 4}}, 39};
    Parrot parrot_;
    Generator generator_{parrot_.model(), vocabulary_, 5};
    Session session_{generator_, vocabulary_, settings(0.0), 8};
    std::atomic<bool> interrupted_ = false;
    std::string reply_;
    std::vector<std::string> notices_;
    int replies_ = 0;
};

TEST_F(Chat, AnswersAndEndsAtEndOfReply) {
    EXPECT_EQ(say("Hello THERE."), AfterLine::kGoOn);
    EXPECT_EQ(reply_, "hello there.");
    EXPECT_THAT(parrot_.source, ElementsAre(4, 5, 9, 2));
    EXPECT_THAT(parrot_.read, ElementsAre(1, 4, 5, 9));
    EXPECT_EQ(replies_, 1);
}

TEST_F(Chat, AReplyIsCutAtTheLongestAllowed) {
    (void)say("i like tea . hello there");
    EXPECT_EQ(reply_, "i like tea.");  // 5 with <eos>
}

TEST_F(Chat, OldestWholeTurnsAreDroppedWhenTheContextIsFull) {
    (void)say("hello there");
    (void)say("i");
    EXPECT_THAT(parrot_.source, ElementsAre(4, 5, 2, 4, 5, 2, 6, 2));
    (void)say("tea");  // after hello there | hello there | i | hello there: the first two no longer fit
    EXPECT_THAT(parrot_.source, ElementsAre(6, 2, 4, 5, 2, 8, 2));
    EXPECT_EQ(reply_, "i");
    (void)say("/context");
    EXPECT_THAT(notices_, ElementsAre("3 of 6 turns, 7 of 8 tokens:", "  bot> hello there", "  you> tea", "  bot> i"));
}

TEST_F(Chat, ResetForgetsTheConversation) {
    (void)say("hello there");
    (void)say("/reset");
    (void)say("tea");
    EXPECT_THAT(parrot_.source, ElementsAre(8, 2));
}

TEST_F(Chat, UnknownWordsAreNamedAndEmptyLinesSayNothing) {
    (void)say("hello xyzzy");
    EXPECT_THAT(notices_, ElementsAre("Not in the vocabulary: xyzzy."));
    (void)say("   ");
    EXPECT_EQ(replies_, 1);
    (void)say("\xff\xfe");
    EXPECT_THAT(notices_, ElementsAre(HasSubstr("not valid UTF-8")));
    EXPECT_EQ(replies_, 1);
}

TEST_F(Chat, UnknownWordsAreNamedOnceAndInBounds) {
    std::string line = "aha aha " + std::string(100, 'z');
    for (int i = 0; i < 20; ++i) line += fmt::format(" word{}", i);
    (void)say(line);
    ASSERT_EQ(notices_.size(), 1U);
    EXPECT_THAT(notices_[0], HasSubstr("Not in the vocabulary: aha, " + std::string(40, 'z') + "..., word0, "));
    EXPECT_THAT(notices_[0], HasSubstr("word7 and 12 more."));
}

TEST_F(Chat, ProbabilitiesOfTheLatestReplyAreShownAndItsBeginningCanBeGiven) {
    (void)say("/probabilities");
    EXPECT_THAT(notices_, ElementsAre("Say something first."));
    (void)say("i like tea");
    (void)say("/probabilities");
    EXPECT_THAT(notices_.at(0), HasSubstr("1.000000  i"));
    EXPECT_THAT(parrot_.source, ElementsAre(6, 7, 8, 2));
    (void)say("/probabilities i like");
    EXPECT_THAT(notices_.at(0), HasSubstr("1.000000  tea"));
    EXPECT_EQ(notices_.size(), 10U);
}

TEST_F(Chat, SettingsAreCheckedAndUsed) {
    (void)say("/temperature 0.7");
    EXPECT_THAT(notices_, ElementsAre("chat.temperature = 0.7"));
    (void)say("/temperature hot");
    EXPECT_THAT(notices_, ElementsAre("chat.temperature = \"hot\" is not a number from 0 to 100."));
    (void)say("/temperature");
    EXPECT_THAT(notices_, ElementsAre("chat.temperature = 0.7"));
    (void)say("/top_p 2");
    EXPECT_THAT(notices_, ElementsAre(HasSubstr("is not a number from")));
}

TEST_F(Chat, KeysThatNobodyEditsByAreNotSaid) {
    (void)say("i \033[Alike\t\033[1;5Dtea\x07\033[");
    EXPECT_TRUE(notices_.empty());
    EXPECT_THAT(parrot_.source, ElementsAre(6, 7, 8, 2));
}

TEST_F(Chat, ACommandWithSomethingAfterItThatItDoesNotTakeIsNotDone) {
    (void)say("i like tea");
    EXPECT_EQ(say("/quit smoking"), AfterLine::kGoOn);
    EXPECT_THAT(notices_, ElementsAre("/quit takes nothing after it; nothing was done."));
    (void)say("/reset now");
    (void)say("/context");
    EXPECT_THAT(notices_.at(0), HasSubstr("2 of 2 turns"));
}

TEST_F(Chat, AnUnknownCommandIsAnsweredWithTheNearest) {
    EXPECT_EQ(say("/rest"), AfterLine::kGoOn);
    EXPECT_THAT(notices_, ElementsAre("There is no command /rest. Did you mean /reset? /help lists them."));
    (void)say("/help");
    EXPECT_THAT(notices_, Contains(HasSubstr("/probabilities [WORDS]")));
    EXPECT_EQ(say("/quit"), AfterLine::kQuit);
}

TEST_F(Chat, TheConversationIsSavedToANewFileOnly) {
    const std::string path = testing::TempDir() + "duologue_transcript.txt";
    std::filesystem::remove(path);  // of a test that was killed
    (void)say("Hello there!");
    (void)say("/save " + path);
    EXPECT_EQ(read_file(path), "you> Hello there!\nbot> hello there\n");
    (void)say("tea");
    (void)say("/save " + path);
    EXPECT_THAT(notices_, ElementsAre(HasSubstr("is there already")));
    EXPECT_EQ(read_file(path), "you> Hello there!\nbot> hello there\n");
    std::filesystem::remove(path);
    (void)say("/save /does/not/exist");
    EXPECT_THAT(notices_, ElementsAre(HasSubstr("cannot be written")));
}

TEST_F(Chat, AnInterruptionEndsTheReply) {
    interrupted_ = true;
    (void)say("hello there");
    EXPECT_EQ(reply_, "");
    EXPECT_EQ(replies_, 1);
}

TEST_F(Chat, WordsAfterAReplyWithoutAWordGoOnWithTheSameTurn) {
    interrupted_ = true;
    (void)say("hello");
    interrupted_ = false;
    (void)say("tea");
    EXPECT_THAT(parrot_.source, ElementsAre(4, 8, 2));  // one turn, as training joins them
    (void)say("/context");
    EXPECT_THAT(notices_, ElementsAre("2 of 2 turns, 6 of 8 tokens:", "  you> hello tea", "  bot> hello tea"));
}

TEST_F(Chat, EqualSeedsGiveEqualReplies) {
    const auto sampled = [&](std::uint64_t key) {
        const std::vector<std::int32_t> source{4, 5, 6, 2};
        return generator_.reply(
            source, settings(20.0), key, [](std::string_view) {}, interrupted_);
    };
    EXPECT_EQ(sampled(3), sampled(3));
    int different = 0;
    for (std::uint64_t key = 4; key < 20; ++key) different += sampled(key) != sampled(3) ? 1 : 0;
    EXPECT_GT(different, 8);
}

}  // namespace
}  // namespace duologue
