// Report: what a command found out, as a tree of named values: JSON for programs, aligned lines for people.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace duologue {

/// Names are snake_case; numbers whose name is or ends with "bytes" are sizes, with "share" fractions, with "flops"
/// counts of floating-point operations.
using Report = nlohmann::ordered_json;

enum class ReportStyle : std::uint8_t { kText, kJson };

/// kJson: the tree as it is. kText: one line per value, trees below their name and further in, lists of trees with the
/// same names as tables, sizes in units, shares in percent. Ends with an end of line.
[[nodiscard]] std::string render(const Report& report, ReportStyle style);

/// "1 shard", "2 shards".
[[nodiscard]] std::string count_text(std::int64_t count, std::string_view noun);

/// "27456 parameters", "9.63 million parameters".
[[nodiscard]] std::string parameter_text(std::int64_t count);

/// "12.3 MiB".
[[nodiscard]] std::string size_text(double bytes);

}  // namespace duologue
