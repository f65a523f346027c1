// Nearest: which known name a mistyped one most likely meant.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace duologue {

/// The candidate with the smallest edit distance (Levenshtein 1966) to `word`; "" where none is near.
[[nodiscard]] std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

/// " Did you mean X?", or "" where no candidate is near.
[[nodiscard]] std::string suggestion(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace duologue
