// Lines and tables from a tree of values.
#include "duologue/core/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

namespace duologue {

namespace {

bool names_a_size(std::string_view name) { return name == "bytes" || name.ends_with("_bytes"); }
bool names_a_share(std::string_view name) { return name == "share" || name.ends_with("_share"); }

/// "state_bytes" is read as "state": its value shows its unit.
std::string title_of(std::string name) {
    if (name.ends_with("_bytes")) name.resize(name.size() - std::string_view("_bytes").size());
    std::replace(name.begin(), name.end(), '_', ' ');
    return name;
}

/// "matmul_flops" and "flops_of_a_rank" are counts of floating-point operations.
bool names_flops(std::string_view name) { return name.starts_with("flops") || name.ends_with("flops"); }

std::string flops_text(double flops) {
    constexpr std::array<std::string_view, 6> kUnits{"", "k", "M", "G", "T", "P"};
    std::size_t unit = 0;
    for (; std::abs(flops) >= 1000.0 && unit + 1 < kUnits.size(); ++unit) flops /= 1000.0;
    return fmt::format("{:.4g} {}FLOP", flops, kUnits[unit]);
}

std::string number_text(double value) {
    const bool whole = value == std::floor(value) && std::abs(value) < 1e15;
    return whole ? fmt::format("{:.0f}", value) : fmt::format("{:.6g}", value);
}

std::string value_text(const std::string& name, const Report& value) {
    if (value.is_string()) return value.get<std::string>();
    if (value.is_boolean()) return value.get<bool>() ? "yes" : "no";
    if (value.is_null()) return "-";
    if (names_a_size(name)) return size_text(value.get<double>());
    if (names_flops(name)) return flops_text(value.get<double>());
    if (names_a_share(name)) return fmt::format("{:.1f} %", 100.0 * value.get<double>());
    return value.is_number_float() ? number_text(value.get<double>()) : value.dump();
}

bool is_table(const Report& value) {
    return value.is_array() && !value.empty() &&
           std::all_of(value.begin(), value.end(), [](const Report& row) { return row.is_object(); });
}

std::string list_text(const std::string& name, const Report& list) {
    std::string text;
    for (const Report& value : list) text += (text.empty() ? "" : ", ") + value_text(name, value);
    return text.empty() ? "-" : text;
}

using Row = std::vector<std::string>;

std::size_t width_of(std::string_view text) {  // code points
    return static_cast<std::size_t>(
        std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

/// Columns as wide as their widest cell, numbers to the right.
std::string table_text(const Report& table, const std::string& indent) {
    std::vector<Row> rows{{}};
    std::vector<bool> numbers;
    for (const auto& [name, value] : table.front().items()) {
        rows[0].push_back(title_of(name));
        numbers.push_back(value.is_number());
    }
    for (const Report& entry : table) {
        Row& row = rows.emplace_back();
        for (const auto& [name, value] : entry.items()) row.push_back(value_text(name, value));
        row.resize(rows[0].size());
    }
    std::vector<std::size_t> widths(rows[0].size());
    for (const Row& row : rows) {
        for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width_of(row[i]));
    }
    std::string text;
    for (const Row& row : rows) {
        std::string line = indent;
        for (std::size_t i = 0; i < row.size(); ++i) {
            const std::string gap(widths[i] - width_of(row[i]), ' ');
            line += (i == 0 ? "" : "  ") + (numbers[i] ? gap + row[i] : row[i] + gap);
        }
        text += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
    }
    return text;
}

std::string tree_text(const Report& tree, const std::string& indent) {
    std::size_t width = 0;
    for (const auto& [name, value] : tree.items()) {
        if (!value.is_object() && !is_table(value)) width = std::max(width, title_of(name).size());
    }
    std::string text;
    for (const auto& [name, value] : tree.items()) {
        if (value.is_object()) {
            text += fmt::format("{}{}\n{}", indent, title_of(name), tree_text(value, indent + "  "));
        } else if (is_table(value)) {
            text += fmt::format("{}{}\n{}", indent, title_of(name), table_text(value, indent + "  "));
        } else {
            const std::string shown = value.is_array() ? list_text(name, value) : value_text(name, value);
            text += fmt::format("{}{:<{}}  {}\n", indent, title_of(name), width, shown);
        }
    }
    return text;
}

}  // namespace

std::string count_text(std::int64_t count, std::string_view noun) {
    return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

std::string parameter_text(std::int64_t count) {
    if (count < 1000000) return count_text(count, "parameter");
    const bool billions = count >= 1000000000;
    return fmt::format("{:.2f} {}illion parameters", static_cast<double>(count) * (billions ? 1e-9 : 1e-6),
                       billions ? "b" : "m");
}

std::string size_text(double bytes) {
    constexpr std::array<std::string_view, 5> kUnits{"bytes", "KiB", "MiB", "GiB", "TiB"};
    std::size_t unit = 0;
    for (; std::abs(bytes) >= 1024.0 && unit + 1 < kUnits.size(); ++unit) bytes /= 1024.0;
    return unit == 0 ? fmt::format("{:.0f} bytes", bytes) : fmt::format("{:.1f} {}", bytes, kUnits[unit]);
}

std::string render(const Report& report, ReportStyle style) {
    return style == ReportStyle::kJson ? report.dump(2) + "\n" : tree_text(report, "");
}

}  // namespace duologue
