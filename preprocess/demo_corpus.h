// The demo corpus: two-party conversations from a small grammar in which good replies can be checked.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace duologue::preprocess {

/// A reply that can be checked: it is right when it contains one of `answers` as a word.
struct DemoCheck {
    std::size_t turn = 0;              ///< of the reply, from 0
    std::string kind;                  ///< "greeting", "fact", "sum" or "preference"
    int distance = 0;                  ///< facts and preferences: turns from the statement to the question; else 0
    std::vector<std::string> answers;  ///< follow from the turns before the reply
};

struct DemoConversation {
    std::vector<std::string> turns;
    std::vector<int> speakers;  ///< 0 and 1, alternating
    std::vector<DemoCheck> checks;
};

/// Conversation `index` of the corpus `seed`: a pure function of both.
[[nodiscard]] DemoConversation demo_conversation(std::uint64_t seed, std::uint64_t index);

/// Writes conversations 0 to `conversations` - 1 as JSON lines {"turns", "speakers", "checks"}; the file appears whole
/// or not at all. kInputOutput.
void write_demo_corpus(const std::string& path, std::int64_t conversations, std::uint64_t seed);

}  // namespace duologue::preprocess
