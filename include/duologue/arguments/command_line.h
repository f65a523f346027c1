// CommandLine: a program's commands and their options, declared once; reads what was typed and writes the help.
#pragma once

#include <charconv>
#include <concepts>
#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "duologue/config/choices.h"
#include "duologue/config/range.h"

namespace duologue {

/// How often an argument may be given. kLastCounts is for options that scripts add after a person's.
enum class Times : std::uint8_t { kOnce, kLastCounts, kMany };

/// An option ("--output"), a flag, an argument known by its place ("INPUT"), or one known either way ("MODEL,--model").
struct Argument {
    std::string names;
    std::string type = "";           ///< INTEGER, NUMBER, TEXT, FILE, DIR, or the choices as a|b|c; "": a flag
    std::string range = "";          ///< of numbers, for the help: "1 to 9"
    std::string expected = "";       ///< for who has given something else: "an integer from 1 to 9"
    std::string text = "";           ///< what it is for
    std::string default_value = "";  ///< its value where none is given; "": none
    std::string group = "options";
    bool is_required = false;
    Times times = Times::kOnce;
    std::function<bool(const std::string&)> set;  ///< takes a value; false: it is not what was expected

    Argument& required() {
        is_required = true;
        return *this;
    }
};

/// One command. What its arguments fill in has to live as long as it.
class Command {
   public:
    Command(std::string name, std::string purpose) : name_(std::move(name)), purpose_(std::move(purpose)) {}

    Argument& add(Argument argument) { return arguments_.emplace_back(std::move(argument)); }
    Argument& flag(std::string names, std::string text, const std::function<void()>& set);
    /// A text of any kind; the help calls it `type`: "FILE", "DIR", "TEXT".
    Argument& value(std::string names, std::string type, std::string& value, std::string text);
    /// A text that may be given several times.
    Argument& values(std::string names, std::string type, std::vector<std::string>& values, std::string text);
    template <std::integral Number>
    Argument& integer(const std::string& names, Number& value, Range range, const std::string& text);
    template <class Enum>
    Argument& choice(const std::string& names, const Choices<Enum>& choices, Enum& value, const std::string& text);

    [[nodiscard]] const std::string& name() const { return name_; }
    [[nodiscard]] const std::string& purpose() const { return purpose_; }
    [[nodiscard]] const std::deque<Argument>& arguments() const { return arguments_; }

    std::string notes;         ///< below the options in the help
    std::function<int()> run;  ///< does what the command is for; returns the exit status

   private:
    std::string name_;
    std::string purpose_;
    std::deque<Argument> arguments_;  // which keeps them in place
};

/// Whether --help and --version are answered: of several ranks one is enough.
enum class Answer : std::uint8_t { kPrint, kOmit };

/// The program itself is the command without a name: it has --version, and more where it has a `run`.
class CommandLine {
   public:
    CommandLine(std::string program, std::string version, std::string purpose);

    [[nodiscard]] Command& itself() { return commands_.front(); }
    [[nodiscard]] Command& add_command(std::string name, std::string purpose);

    /// Sets what was given and returns what is to be done: the command's `run`, or printing the help or the version.
    /// kConfiguration, in one line, where anything is wrong: the value, what was expected, the nearest that is known,
    /// and which --help lists it.
    [[nodiscard]] std::function<int()> read(const std::vector<std::string>& arguments,
                                            Answer answer = Answer::kPrint) const;

   private:
    [[nodiscard]] std::string help(const Command& command) const;
    [[nodiscard]] const Command* find_command(const std::string& name) const;
    [[nodiscard]] std::vector<std::string> command_names() const;
    /// What a command line that begins with `first` is one of.
    [[nodiscard]] const Command& command_called(const std::string& first) const;
    [[nodiscard]] std::string called(const Command& command) const;

    std::string program_;
    std::string version_;
    std::deque<Command> commands_;
};

template <std::integral Number>
Argument& Command::integer(const std::string& names, Number& value, Range range, const std::string& text) {
    const auto set = [&value, range](const std::string& given) {
        Number number{};
        const char* end = given.data() + given.size();
        const auto [stopped, problem] = std::from_chars(given.data(), end, number);
        if (problem != std::errc() || stopped != end || !range.holds(static_cast<double>(number))) return false;
        value = number;
        return true;
    };
    return add({.names = names,
                .type = "INTEGER",
                .range = to_text(range),
                .expected = describe("an integer", range),
                .text = text,
                .default_value = std::to_string(value),
                .set = set});
}

template <class Enum>
Argument& Command::choice(const std::string& names, const Choices<Enum>& choices, Enum& value,
                          const std::string& text) {
    Argument argument{
        .names = names, .type = names_of(choices, "|"), .expected = names_of(choices, " or "), .text = text};
    for (const auto& [name, meaning] : choices) {
        if (meaning == value) argument.default_value = name;
    }
    argument.set = [&value, choices](const std::string& given) {
        for (const auto& [name, meaning] : choices) {
            if (name != given) continue;
            value = meaning;
            return true;
        }
        return false;
    };
    return add(std::move(argument));
}

}  // namespace duologue
