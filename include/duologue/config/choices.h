// Choices: the names that an option takes and what they mean, and how they are listed.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace duologue {

template <class Enum>
using Choices = std::vector<std::pair<std::string, Enum>>;

/// For lists, separated by "|"; for sentences by " or ".
template <class Enum>
[[nodiscard]] std::string names_of(const Choices<Enum>& choices, std::string_view separator) {
    std::string names;
    for (const auto& [name, meaning] : choices) names.append(names.empty() ? "" : separator).append(name);
    return names;
}

}  // namespace duologue
