// Evaluation: how many of the replies that can be checked are right.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "duologue/chat/generator.h"
#include "duologue/data/vocabulary.h"

namespace duologue {

/// A turn whose content is known from the turns before it.
struct Check {
    std::int64_t turn = 0;             ///< index of the reply in `turns`
    std::string kind;                  ///< for example "sum"
    std::int64_t distance = 0;         ///< how many turns ago the answer was said; 0: it was not
    std::vector<std::string> answers;  ///< the reply is right when it contains one of them, as whole words
};

struct CheckedConversation {
    std::vector<std::string> turns;
    std::vector<Check> checks;
};

/// JSON lines {"turns": [...], "checks": [{"turn", "kind", "distance", "answers"}]}; lines without checks are passed
/// over. kData naming file and line where one is malformed.
[[nodiscard]] std::vector<CheckedConversation> load_checked_conversations(const std::string& path);

struct CheckGroup {
    std::string kind;
    std::int64_t distance = 0;
    // NOLINTNEXTLINE(modernize-use-nullptr): clang-tidy 14 misreads a defaulted comparison
    auto operator<=>(const CheckGroup&) const = default;
};

struct Score {
    std::int64_t asked = 0;
    std::int64_t right = 0;
    [[nodiscard]] double share() const {
        return asked == 0 ? 0.0 : static_cast<double>(right) / static_cast<double>(asked);
    }
};

using Scores = std::map<CheckGroup, Score>;

[[nodiscard]] Score total(const Scores& scores);

/// One reply that was checked, for people who want to see them.
struct CheckedReply {
    const Check& check;
    std::string_view question;  ///< the turn before
    std::string_view reply;
    bool right = false;
};

/// Whether `reply` contains one of `answers` as whole words, by the vocabulary's rules.
[[nodiscard]] bool contains_answer(const WordRules& rules, std::string_view reply,
                                   const std::vector<std::string>& answers);

/// Greedy replies to the first `limit` checks (0: all), each in the context of the turns before it as they were really
/// said.
[[nodiscard]] Scores evaluate_checks(Generator& generator, const Vocabulary& vocabulary,
                                     std::int64_t max_context_tokens,
                                     const std::vector<CheckedConversation>& conversations, std::int64_t limit,
                                     const std::function<void(const CheckedReply&)>& on_reply);

}  // namespace duologue
