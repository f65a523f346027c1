// The help: how a command is called, its commands, and one entry for each option.
#include <algorithm>

#include "arguments/names.h"
#include "duologue/arguments/command_line.h"

namespace duologue {

namespace {

constexpr std::size_t kLineWidth = 100;
constexpr std::size_t kMostColumn = 46;  // a longer name has a line of its own

using Words = std::vector<std::string>;

/// `words` in lines of at most `width`, all but the first indented.
std::string wrapped(const Words& words, std::size_t indent, std::size_t width) {
    std::string lines;
    std::size_t used = 0;
    for (const std::string& word : words) {
        if (used > 0 && used + 1 + word.size() > width) {
            lines += fmt::format("\n{:{}}", "", indent);
            used = 0;
        }
        lines.append(used > 0 ? " " : "").append(word);
        used += (used > 0 ? 1 : 0) + word.size();
    }
    return lines;
}

struct Entry {
    std::string name;
    Words text;
};

std::string render(const std::vector<Entry>& entries, std::size_t column) {
    std::string text;
    for (const Entry& entry : entries) {
        const bool alone = entry.name.size() + 4 > column;
        text += fmt::format("  {:<{}}{}{}\n", entry.name, alone ? 0 : column - 2,
                            alone ? fmt::format("\n{:{}}", "", column) : "",
                            wrapped(entry.text, column, kLineWidth - column));
    }
    return text;
}

std::string name_in_list(const Argument& argument) {
    std::string name;
    for (const std::string& one : names_of(argument)) name.append(name.empty() ? "" : ", ").append(one);
    const bool only_by_place = is_positional(argument) && names_of(argument).size() == 1;
    if (only_by_place) return fmt::format("{}{}", name, argument.times == Times::kMany ? "..." : "");
    return is_flag(argument) ? name : fmt::format("{} {}", name, argument.type);
}

/// "what it is for [1 to 9; default 3]"
Entry entry_of(const Argument& argument) {
    std::vector<std::string> facts;
    if (argument.is_required) facts.emplace_back("required");
    if (argument.times == Times::kMany && !is_positional(argument)) facts.emplace_back("may be repeated");
    if (!argument.range.empty()) facts.push_back(argument.range);
    if (!argument.default_value.empty()) facts.push_back("default " + argument.default_value);
    Words text = parts_of(argument.text, ' ');
    if (!facts.empty()) text.push_back(fmt::format("[{}]", fmt::join(facts, "; ")));
    return {.name = name_in_list(argument), .text = text};
}

/// What has to be given, as it is typed.
std::string usage_of(const Command& command) {
    std::string usage;
    for (const Argument& argument : command.arguments()) {
        const std::string first = names_of(argument).front();
        const std::string more = argument.times == Times::kMany ? "..." : "";
        if (is_positional(argument)) {
            usage += fmt::format(fmt::runtime(argument.is_required ? " {}{}" : " [{}{}]"), first, more);
        } else if (argument.is_required) {
            usage += fmt::format(" {} {}", first, argument.type);
        }
    }
    return usage + " [OPTION...]";
}

std::string describe_arguments(const Command& command) {
    std::size_t longest = 0;
    std::vector<std::pair<std::string, std::vector<Entry>>> groups{{"arguments", {}}};
    for (const Argument& argument : command.arguments()) {
        const std::string title = is_positional(argument) ? groups.front().first : argument.group;
        const auto found =
            std::find_if(groups.begin(), groups.end(), [&](const auto& group) { return group.first == title; });
        auto& entries = found == groups.end() ? groups.emplace_back(title, std::vector<Entry>()).second : found->second;
        entries.push_back(entry_of(argument));
        longest = std::max(longest, entries.back().name.size());
    }
    std::string text;
    for (const auto& [title, entries] : groups) {
        if (entries.empty()) continue;
        text += fmt::format("\n{}:\n{}", title, render(entries, std::min(longest + 4, kMostColumn)));
    }
    return text;
}

}  // namespace

std::string CommandLine::help(const Command& command) const {
    const bool whole = &command == &commands_.front();
    std::string text = command.run ? fmt::format("usage: {}{}\n", called(command), usage_of(command))
                                   : fmt::format("usage: {} COMMAND [OPTION...]\n", program_);
    std::vector<Entry> entries;
    for (const Command& other : commands_) {
        if (!whole || other.name().empty()) continue;
        entries.push_back({.name = other.name(), .text = parts_of(other.purpose(), ' ')});
        if (command.run) text += fmt::format("       {}{}\n", called(other), usage_of(other));
    }
    text += wrapped(parts_of(command.purpose(), ' '), 0, kLineWidth) + "\n";
    if (!entries.empty()) text += fmt::format("\ncommands:\n{}", render(entries, 12));
    text += describe_arguments(command);
    if (!entries.empty()) text += fmt::format("\n`{} COMMAND --help` lists the options of a command.\n", program_);
    if (!command.notes.empty()) text += fmt::format("\n{}\n", wrapped(parts_of(command.notes, ' '), 0, kLineWidth));
    return text;
}

}  // namespace duologue
