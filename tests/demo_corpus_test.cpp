// The demo corpus: its replies satisfy their own checks, its facts can be found, its conversations differ.
#include "demo_corpus.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "duologue/core/durable_file.h"
#include "duologue/core/error.h"
#include "duologue/data/tokenizer.h"
#include "support/temporary_folder.h"

namespace duologue::preprocess {
namespace {

constexpr std::uint64_t kSample = 3000;

std::set<std::string> words_of(const std::string& text) {
    std::set<std::string> words;
    for_each_word(text, {}, [&](std::string_view word) { words.emplace(word); });
    return words;
}

bool answers(const std::string& reply, const DemoCheck& check) {
    const std::set<std::string> words = words_of(reply);
    return std::ranges::any_of(check.answers, [&](const std::string& answer) { return words.contains(answer); });
}

TEST(DemoCorpus, RepliesAreRightByTheirOwnChecks) {
    for (std::uint64_t i = 0; i < kSample; ++i) {
        const DemoConversation conversation = demo_conversation(1, i);
        ASSERT_EQ(conversation.turns.size(), conversation.speakers.size());
        ASSERT_FALSE(conversation.checks.empty());
        for (const DemoCheck& check : conversation.checks) {
            ASSERT_GE(check.turn, 1U);
            ASSERT_LT(check.turn, conversation.turns.size());
            EXPECT_TRUE(answers(conversation.turns[check.turn], check)) << conversation.turns[check.turn];
        }
    }
}

TEST(DemoCorpus, FactsAreToldWhereTheDistanceSaysAndNotInBetween) {
    std::map<int, int> facts_by_distance;
    for (std::uint64_t i = 0; i < kSample; ++i) {
        const DemoConversation conversation = demo_conversation(1, i);
        for (const DemoCheck& check : conversation.checks) {
            if (check.kind != "fact") continue;
            ++facts_by_distance[check.distance];
            const std::size_t question = check.turn - 1;
            const std::size_t told = question - static_cast<std::size_t>(check.distance);
            EXPECT_TRUE(answers(conversation.turns.at(told), check)) << conversation.turns[told];
            for (std::size_t turn = told + 1; turn <= question; ++turn) {
                EXPECT_FALSE(answers(conversation.turns[turn], check)) << conversation.turns[turn];
            }
        }
    }
    EXPECT_EQ(facts_by_distance.size(), 3U);
    for (const auto& [distance, count] : facts_by_distance) EXPECT_GT(count, 500) << distance;
}

TEST(DemoCorpus, SumsAndPreferencesFollowFromTheContext) {
    int sums = 0;
    int preferences = 0;
    for (std::uint64_t i = 0; i < kSample; ++i) {
        const DemoConversation conversation = demo_conversation(1, i);
        for (const DemoCheck& check : conversation.checks) {
            const std::string& question = conversation.turns[check.turn - 1];
            if (check.kind == "sum") {
                const std::size_t plus = question.find("plus");
                const int a = std::stoi(question.substr(question.rfind(' ', plus - 2)));
                const int b = std::stoi(question.substr(plus + 5));
                EXPECT_EQ(check.answers, std::vector<std::string>{std::to_string(a + b)}) << question;
                ++sums;
            }
            if (check.kind == "preference") {
                const std::size_t told = check.turn - 1 - static_cast<std::size_t>(check.distance);
                const std::set<std::string> words = words_of(conversation.turns.at(told));
                const bool dislikes = words.contains("not") || words.contains("hate");
                EXPECT_EQ(check.answers.front(), dislikes ? "no" : "yes");
                std::istringstream in(question.substr(std::string("do i like ").size()));
                std::string item;
                in >> item;
                EXPECT_TRUE(words.contains(item)) << conversation.turns[told] << " / " << question;
                ++preferences;
            }
        }
    }
    EXPECT_GT(sums, 300);
    EXPECT_GT(preferences, 300);
}

TEST(DemoCorpus, ConversationsDifferAndTheVocabularyIsSmall) {
    std::set<std::vector<std::string>> seen;
    std::set<std::string> words;
    std::size_t again = 0;
    for (std::uint64_t i = 0; i < kSample; ++i) {
        const DemoConversation conversation = demo_conversation(1, i);
        seen.insert(conversation.turns);
        for (const std::string& turn : conversation.turns) words.merge(words_of(turn));
    }
    EXPECT_GE(seen.size(), kSample - 5);
    EXPECT_LT(words.size(), 600U);
    for (std::uint64_t i = 0; i < kSample; ++i) again += seen.count(demo_conversation(2, i).turns);
    EXPECT_LE(again, 5U);
}

TEST(DemoCorpus, IsWrittenAsJsonLines) {
    const TemporaryFolder folder;
    write_demo_corpus(folder / "demo.jsonl", 7, 3);
    std::istringstream lines(read_file(folder / "demo.jsonl"));
    std::string line;
    std::uint64_t count = 0;
    for (; std::getline(lines, line); ++count) {
        const auto record = nlohmann::json::parse(line);
        const DemoConversation conversation = demo_conversation(3, count);
        EXPECT_EQ(record.at("turns").get<std::vector<std::string>>(), conversation.turns);
        EXPECT_EQ(record.at("checks").size(), conversation.checks.size());
        EXPECT_EQ(record.at("checks").at(0).at("answers").get<std::vector<std::string>>(),
                  conversation.checks.at(0).answers);
    }
    EXPECT_EQ(count, 7U);
    EXPECT_THROW(write_demo_corpus("/nowhere/demo.jsonl", 7, 3), Error);
}

}  // namespace
}  // namespace duologue::preprocess
