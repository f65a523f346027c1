// Which value belongs to which argument, what may be there, and what is said of what may not.
#include "duologue/arguments/command_line.h"

#include <algorithm>
#include <iterator>
#include <map>

#include "arguments/names.h"
#include "duologue/config/config.h"
#include "duologue/config/nearest.h"
#include "duologue/core/error.h"

namespace duologue {

namespace {

/// Between quotes and in one line.
std::string quoted(const std::string& text) {
    std::string shown;
    for (const char c : text) {
        const auto code = static_cast<unsigned char>(c);
        shown += code < 0x20 || code == 0x7f ? fmt::format("\\x{:02x}", code) : std::string(1, c);
    }
    return "'" + shown + "'";
}

/// As choices are written.
std::string in_lower_case(std::string text) {
    std::transform(text.begin(), text.end(), text.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? c | 0x20 : c; });
    return text;
}

std::string without_value(const std::string& argument) { return argument.substr(0, argument.find('=')); }

std::string name_of(const Argument& argument) { return names_of(argument).front(); }

std::string expected_of(const Argument& argument) {
    if (argument.type == "DIR") return "a folder";
    if (argument.type == "FILE") return "a file";
    return argument.expected;
}

bool is_config_key(const std::string& key) {
    const std::vector<OptionHelp> known = option_help();
    return std::any_of(known.begin(), known.end(), [&](const OptionHelp& option) { return option.key == key; });
}

using Words = std::vector<std::string>;

/// What a command line says.
struct Given {
    std::map<const Argument*, Words> values;
    Words placed;   ///< all that has no name and stands before "--"
    Words unknown;  ///< names of options that there are not
    Words without_a_place;
};

/// Whether one of `questions` is there, even where a value should be.
bool asks(Words::const_iterator begin, Words::const_iterator end, const Words& questions) {
    end = std::find(begin, end, "--");
    return std::find_first_of(begin, end, questions.begin(), questions.end()) != end;
}

bool is_question(const std::string& argument) {
    return argument == "--help" || argument == "-h" || argument == "--version";
}

/// Of one command, which is called as `called` says.
class Reader {
   public:
    Reader(const Command& command, std::string called) : command_(command), called_(std::move(called)) {}

    /// Everything after "--" is known by its place, whatever it begins with.
    [[nodiscard]] Given split(const Words& arguments) const {
        Given given;
        const auto mark = std::find(arguments.begin(), arguments.end(), "--");
        for (auto at = arguments.begin(); at != mark; ++at) {
            if (is_option_name(*at) && *at != "-") {
                take_option(at, mark, given);
            } else {
                given.placed.push_back(*at);
                place(*at, given);
            }
        }
        if (mark == arguments.end()) return given;
        for (auto at = mark + 1; at != arguments.end(); ++at) place(*at, given);
        return given;
    }

    /// Sets everything, or refuses.
    void take(const Given& given) const {
        if (!given.unknown.empty()) refuse_option(given.unknown.front());
        if (!given.without_a_place.empty()) {
            refuse(fmt::format("{} is one argument too many.", quoted(given.without_a_place.front())));
        }
        for (const Argument& argument : command_.arguments()) {
            const auto found = given.values.find(&argument);
            take_values(argument, found == given.values.end() ? Words() : found->second);
        }
    }

    [[noreturn]] void refuse(const std::string& sentence) const {
        fail(ErrorCode::kConfiguration, "{} `{} --help` lists all options.", sentence, called_);
    }

   private:
    [[nodiscard]] const Argument* option_called(const std::string& name) const {
        for (const Argument& argument : command_.arguments()) {
            const Words names = names_of(argument);
            if (is_option_name(name) && std::find(names.begin(), names.end(), name) != names.end()) return &argument;
        }
        return nullptr;
    }

    /// `at` is a name, or name=value, and goes on to the value where that stands apart.
    void take_option(Words::const_iterator& at, Words::const_iterator end, Given& given) const {
        const std::string name = without_value(*at);
        const Argument* option = option_called(name);
        if (option == nullptr) {
            given.unknown.push_back(name);
            return;
        }
        const bool has_value = name.size() < at->size();
        std::string value = has_value ? at->substr(name.size() + 1) : "";
        if (is_flag(*option)) {
            if (has_value) refuse(fmt::format("{} takes no value, but is given {}.", name, quoted(value)));
        } else if (!has_value) {
            const bool follows = at + 1 != end && option_called(without_value(at[1])) == nullptr;
            if (!follows) refuse(fmt::format("{} needs a value: {}.", name, expected_of(*option)));
            value = *++at;
        }
        given.values[option].push_back(value);
    }

    void place(const std::string& value, Given& given) const {
        for (const Argument& argument : command_.arguments()) {
            if (!is_positional(argument)) continue;
            Words& values = given.values[&argument];
            if (values.empty() || argument.times == Times::kMany) return values.push_back(value);
        }
        given.without_a_place.push_back(value);
    }

    [[noreturn]] void refuse_option(const std::string& name) const {
        if (name.starts_with("--") && is_config_key(name.substr(2))) {
            refuse(fmt::format("`{}` has no option {}: it would have no effect there.", called_, name));
        }
        refuse(fmt::format("there is no option {}.{}", quoted(name), suggestion_for(name)));
    }

    /// The last part of a dotted key is often all that is remembered.
    [[nodiscard]] std::string suggestion_for(const std::string& name) const {
        std::string last = name.substr(std::min(name.find_first_not_of('-'), name.size()));
        std::replace(last.begin(), last.end(), '-', '_');
        Words long_names;  // every short one is near
        for (const Argument& argument : command_.arguments()) {
            const Words names = names_of(argument);
            std::copy_if(names.begin(), names.end(), std::back_inserter(long_names),
                         [](const std::string& one) { return one.starts_with("--"); });
        }
        for (const std::string& option : long_names) {
            if (option.ends_with("." + last)) return " Did you mean " + option + "?";
        }
        return suggestion(name, long_names);
    }

    void take_values(const Argument& argument, const Words& values) const {
        const std::string name = name_of(argument);
        if (values.empty() && argument.is_required) {
            const std::string type = is_positional(argument) ? "" : " " + argument.type;
            refuse(fmt::format("{}{} is missing: {}.", name, type, argument.text));
        }
        if (values.size() > 1 && argument.times == Times::kOnce) {
            refuse(is_flag(argument)
                       ? fmt::format("{} is given twice.", name)
                       : fmt::format("{} is given twice: {} and {}.", name, quoted(values[0]), quoted(values[1])));
        }
        for (const std::string& value : values) take_value(argument, value);
    }

    void take_value(const Argument& argument, const std::string& value) const {
        if (!argument.set || argument.set(value)) return;
        const Words choices = parts_of(argument.type, '|');
        refuse(fmt::format("{} is {}, not {}.{}", name_of(argument), quoted(value), expected_of(argument),
                           choices.size() > 1 ? suggestion(in_lower_case(value), choices) : ""));
    }

    const Command& command_;
    std::string called_;
};

}  // namespace

Argument& Command::flag(std::string names, std::string text, const std::function<void()>& set) {
    return add({.names = std::move(names), .text = std::move(text), .set = [set](const std::string&) {
                    set();
                    return true;
                }});
}

Argument& Command::value(std::string names, std::string type, std::string& value, std::string text) {
    return add({.names = std::move(names),
                .type = std::move(type),
                .expected = "a text",
                .text = std::move(text),
                .default_value = value,
                .set = [&value](const std::string& given) {
                    value = given;
                    return !given.empty();
                }});
}

Argument& Command::values(std::string names, std::string type, std::vector<std::string>& values, std::string text) {
    return add({.names = std::move(names),
                .type = std::move(type),
                .expected = "a text",
                .text = std::move(text),
                .times = Times::kMany,
                .set = [&values](const std::string& given) {
                    values.push_back(given);
                    return true;
                }});
}

CommandLine::CommandLine(std::string program, std::string version, std::string purpose)
    : program_(std::move(program)), version_(std::move(version)) {
    add_command("", std::move(purpose)).add({.names = "--version", .text = "print the version"});
}

Command& CommandLine::add_command(std::string name, std::string purpose) {
    Command& command = commands_.emplace_back(std::move(name), std::move(purpose));
    command.add({.names = "--help,-h", .text = "print this"});
    return command;
}

std::string CommandLine::called(const Command& command) const {
    return command.name().empty() ? program_ : program_ + " " + command.name();
}

const Command* CommandLine::find_command(const std::string& name) const {
    const auto has_name = [&](const Command& command) { return command.name() == name; };
    const auto found = std::find_if(commands_.begin() + 1, commands_.end(), has_name);
    return found == commands_.end() ? nullptr : &*found;
}

std::vector<std::string> CommandLine::command_names() const {
    Words names;
    std::transform(commands_.begin() + 1, commands_.end(), std::back_inserter(names),
                   [](const Command& command) { return command.name(); });
    return names;
}

const Command& CommandLine::command_called(const std::string& first) const {
    if (const Command* named = find_command(first)) return *named;
    const Command& whole = commands_.front();
    if (whole.run || first.empty() || is_option_name(first)) return whole;
    fail(ErrorCode::kConfiguration, "there is no command {}.{} `{} --help` lists them.", quoted(first),
         suggestion(first, command_names()), program_);
}

std::function<int()> CommandLine::read(const std::vector<std::string>& arguments, Answer answer) const {
    const auto print = [answer](const std::string& text) {
        return [answer, text] {
            if (answer == Answer::kPrint) fmt::print("{}", text);
            return 0;
        };
    };
    const auto end = arguments.end();
    const auto first = std::find_if_not(arguments.begin(), end, is_question);  // "--help train" is "train --help"
    const Command& command = command_called(first == end ? "" : *first);
    const bool is_named = !command.name().empty();
    if (asks(arguments.begin(), end, {"--help", "-h"})) return print(help(command));
    if (asks(arguments.begin(), is_named ? first : end, {"--version"})) return print(program_ + " " + version_ + "\n");
    const Reader reader(command, called(command));
    const Given given = reader.split({is_named ? first + 1 : first, end});
    for (const std::string& name : is_named ? Words() : given.placed) {
        require(find_command(name) == nullptr, ErrorCode::kConfiguration,
                "{} stands before the command {}; it comes after it. `{} {} --help` lists all options.",
                quoted(arguments.front()), name, program_, name);
    }
    reader.take(given);
    require(command.run != nullptr, ErrorCode::kConfiguration, "a command is missing: {}. `{} --help` lists them.",
            fmt::join(command_names(), ", "), program_);
    return command.run;
}

}  // namespace duologue
