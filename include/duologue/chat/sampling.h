// Sampling: from the logits of the next word to the word that is said.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "duologue/config/config.h"

namespace duologue {

struct WordProbability {
    std::int32_t id = 0;
    double probability = 0.0;
};

/// Whether <eos> may be chosen: the first word of a reply may not be its end.
enum class MayEnd : std::uint8_t { kNo, kYes };

/// The words a reply may go on with and their probabilities, which sum to 1. Of `logits` [V]: <pad>, <sos> and <unk>
/// are never said; words of `said` are made less likely by the repetition penalty (Keskar et al. 2019, section 4.1);
/// then temperature (0: only the likeliest, the lower id at a tie), top-k (Fan et al. 2018) and top-p (Holtzman et al.
/// 2020), in this order. kData where no logit is finite.
[[nodiscard]] std::vector<WordProbability> candidates(std::span<const float> logits, std::span<const std::int32_t> said,
                                                      const ChatConfig& config, MayEnd may_end);

/// The word at `uniform`, in [0, 1), of the cumulative distribution.
[[nodiscard]] std::int32_t choose(const std::vector<WordProbability>& words, double uniform);

/// The `count` likeliest of all words by the model itself: softmax of the logits, likeliest first.
[[nodiscard]] std::vector<WordProbability> likeliest(std::span<const float> logits, std::size_t count);

}  // namespace duologue
