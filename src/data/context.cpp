// The latest whole turns that fit.
#include "duologue/data/context.h"

#include <algorithm>

#include "duologue/data/vocabulary.h"

namespace duologue {

std::size_t context_turns(std::span<const TurnTokens> turns, std::int64_t max_tokens) {
    std::size_t count = 0;
    std::int64_t used = 0;
    while (count < turns.size()) {
        used += std::ssize(turns[turns.size() - 1 - count]) + 1;
        if (used > max_tokens && count > 0) break;
        ++count;
    }
    return count;
}

void append_context(std::vector<std::int32_t>& tokens, std::span<const TurnTokens> turns, std::int64_t max_tokens) {
    for (const TurnTokens turn : turns.last(context_turns(turns, max_tokens))) {
        const auto kept = std::min(turn.size(), static_cast<std::size_t>(max_tokens - 1));
        tokens.insert(tokens.end(), turn.end() - static_cast<std::ptrdiff_t>(kept), turn.end());
        tokens.push_back(Vocabulary::kEnd);
    }
}

}  // namespace duologue
