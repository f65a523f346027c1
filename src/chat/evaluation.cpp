// Checks from JSON lines, greedy replies, and whether they contain the answer.
#include "duologue/chat/evaluation.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "duologue/core/error.h"
#include "duologue/data/context.h"
#include "duologue/data/tokenizer.h"

namespace duologue {

namespace {

using nlohmann::json;

CheckedConversation conversation_from(const json& record) {
    CheckedConversation conversation;
    record.at("turns").get_to(conversation.turns);
    for (const json& check : record.at("checks")) {
        conversation.checks.push_back({.turn = check.at("turn").get<std::int64_t>(),
                                       .kind = check.at("kind").get<std::string>(),
                                       .distance = check.value("distance", std::int64_t{0}),
                                       .answers = check.at("answers").get<std::vector<std::string>>()});
        const Check& last = conversation.checks.back();
        require(last.turn > 0 && last.turn < std::ssize(conversation.turns), ErrorCode::kData,
                "a check of turn {} in a conversation of {}", last.turn, conversation.turns.size());
    }
    return conversation;
}

std::vector<std::string> words_of(const WordRules& rules, std::string_view text) {
    std::vector<std::string> words;
    for_each_word(text, rules, [&](std::string_view word) { words.emplace_back(word); });
    return words;
}

std::vector<std::int32_t> source_of(const Vocabulary& vocabulary, const CheckedConversation& conversation,
                                    std::int64_t turn, std::int64_t max_context_tokens) {
    std::vector<std::vector<std::int32_t>> turns;
    for (std::int64_t i = 0; i < turn; ++i) {
        turns.push_back(encode(vocabulary, conversation.turns[static_cast<std::size_t>(i)]));
    }
    const std::vector<TurnTokens> views(turns.begin(), turns.end());
    std::vector<std::int32_t> source;
    append_context(source, views, max_context_tokens);
    return source;
}

}  // namespace

std::vector<CheckedConversation> load_checked_conversations(const std::string& path) {
    std::ifstream file(path);
    require(file.is_open(), ErrorCode::kInputOutput, "cannot open '{}' to read it: {}", path, std::strerror(errno));
    std::vector<CheckedConversation> conversations;
    std::string line;
    for (std::int64_t number = 1; std::getline(file, line); ++number) {
        try {
            const json record = json::parse(line);
            if (record.contains("checks")) conversations.push_back(conversation_from(record));
        } catch (const json::exception&) {
            fail(
                ErrorCode::kData,
                "{}, line {}: not a JSON object with \"turns\" and, where there are \"checks\", the \"turn\", \"kind\" "
                "and \"answers\" of each, as `duologue-preprocess demo` writes them",
                path, number);
        } catch (const Error& problem) {
            fail(ErrorCode::kData, "{}, line {}: {}", path, number, problem.what());
        }
    }
    require(!conversations.empty(), ErrorCode::kData,
            "'{}' has no conversation with checks; `duologue-preprocess demo` writes some", path);
    return conversations;
}

Score total(const Scores& scores) {
    Score sum;
    for (const auto& [group, score] : scores) {
        sum.asked += score.asked;
        sum.right += score.right;
    }
    return sum;
}

bool contains_answer(const WordRules& rules, std::string_view reply, const std::vector<std::string>& answers) {
    const std::vector<std::string> said = words_of(rules, reply);
    return std::any_of(answers.begin(), answers.end(), [&](const std::string& answer) {
        const std::vector<std::string> wanted = words_of(rules, answer);
        return !wanted.empty() && std::search(said.begin(), said.end(), wanted.begin(), wanted.end()) != said.end();
    });
}

Scores evaluate_checks(Generator& generator, const Vocabulary& vocabulary, std::int64_t max_context_tokens,
                       const std::vector<CheckedConversation>& conversations, std::int64_t limit,
                       const std::function<void(const CheckedReply&)>& on_reply) {
    ChatConfig greedy;
    greedy.temperature = 0.0;
    const std::atomic<bool> interrupted = false;
    Scores scores;
    std::int64_t asked = 0;
    for (const CheckedConversation& conversation : conversations) {
        for (const Check& check : conversation.checks) {
            if (limit > 0 && asked == limit) return scores;
            ++asked;
            const auto source = source_of(vocabulary, conversation, check.turn, max_context_tokens);
            std::string reply;
            (void)generator.reply(
                source, greedy, 0, [&](std::string_view text) { reply += text; }, interrupted);
            const bool right = contains_answer(vocabulary.rules(), reply, check.answers);
            Score& score = scores[{check.kind, check.distance}];
            score.asked += 1;
            score.right += right ? 1 : 0;
            const std::string& question = conversation.turns[static_cast<std::size_t>(check.turn - 1)];
            on_reply({.check = check, .question = question, .reply = reply, .right = right});
        }
    }
    return scores;
}

}  // namespace duologue
