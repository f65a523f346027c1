// Context: what a reply is given of the conversation before it; the same rule in training and in the chat.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace duologue {

/// The words of one turn, without special tokens.
using TurnTokens = std::span<const std::int32_t>;

/// How many of the latest turns fit `max_tokens` whole, each closed by <eos>; at least one where there is a turn.
[[nodiscard]] std::size_t context_turns(std::span<const TurnTokens> turns, std::int64_t max_tokens);

/// Appends these latest turns, each closed by <eos>, to `tokens`. A single turn that is too long keeps its end.
void append_context(std::vector<std::int32_t>& tokens, std::span<const TurnTokens> turns, std::int64_t max_tokens);

}  // namespace duologue
