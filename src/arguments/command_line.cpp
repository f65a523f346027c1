// CLI11 tells which value belongs to which argument; what may be there is decided, and what may not is said, here.
#include "duologue/arguments/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iterator>

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

const Argument& argument_of(const Command& command, const std::string& name) {
    const auto has_name = [&](const Argument& argument) {
        const std::vector<std::string> names = names_of(argument);
        return std::find(names.begin(), names.end(), name) != names.end();
    };
    const auto found = std::find_if(command.arguments().begin(), command.arguments().end(), has_name);
    require(found != command.arguments().end(), ErrorCode::kInternal, "no argument is called {}", name);
    return *found;
}

std::string expected_of(const Argument& argument) {
    if (argument.type == "DIR") return "a folder";
    if (argument.type == "FILE") return "a file";
    return argument.expected;
}

bool is_config_key(const std::string& key) {
    const std::vector<OptionHelp> known = option_help();
    return std::any_of(known.begin(), known.end(), [&](const OptionHelp& option) { return option.key == key; });
}

/// CLI11 would take what follows `--name=` as the value, where an empty one is meant.
std::vector<std::string> with_empty_values_apart(const std::vector<std::string>& arguments) {
    std::vector<std::string> apart;
    bool by_place = false;  // after "--"
    for (const std::string& argument : arguments) {
        by_place = by_place || argument == "--";
        const bool is_empty = !by_place && argument.starts_with("--") && argument.find('=') == argument.size() - 1;
        apart.push_back(is_empty ? without_value(argument) : argument);
        if (is_empty) apart.emplace_back();
    }
    return apart;
}

/// What a command line says, argument by argument.
struct Given {
    std::vector<std::vector<std::string>> values;  ///< of each argument of the command, in their order
    std::vector<std::string> rest;                 ///< what belongs to none
};

/// Of one command, which is called as `called` says.
class Reader {
   public:
    Reader(const Command& command, std::string called) : command_(command), called_(std::move(called)) {
        for (const Argument& argument : command.arguments()) {
            for (const std::string& name : names_of(argument)) {
                if (is_option_name(name)) options_.push_back(name);
            }
        }
    }

    [[nodiscard]] Given split(const std::vector<std::string>& arguments) const {
        CLI::App app;
        app.set_help_flag();
        app.allow_extras();
        std::vector<const CLI::Option*> options;
        for (const Argument& argument : command_.arguments()) {
            if (is_flag(argument)) {
                options.push_back(app.add_flag(argument.names)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll));
                continue;
            }
            const bool many_places = is_positional(argument) && argument.times == Times::kMany;
            options.push_back(app.add_option(argument.names)
                                  ->expected(1, CLI::detail::expected_max_vector_size)
                                  ->allow_extra_args(many_places));
        }
        std::vector<std::string> reversed = with_empty_values_apart(arguments);  // as CLI11 takes them
        std::reverse(reversed.begin(), reversed.end());
        try {
            app.parse(std::move(reversed));
        } catch (const CLI::ArgumentMismatch&) {  // what it is last has no value
            refuse_missing_value(argument_of(command_, arguments.back()));
        }
        Given given{.values = {}, .rest = app.remaining()};
        for (const CLI::Option* option : options) given.values.push_back(option->results());
        return given;
    }

    [[nodiscard]] bool asks_for(const Given& given, const std::string& name) const {
        std::size_t index = 0;
        for (const Argument& argument : command_.arguments()) {
            if (given.values[index++].empty()) continue;
            if (&argument == &argument_of(command_, name)) return true;
        }
        return false;
    }

    /// Sets everything, or refuses.
    void take(const Given& given) const {
        std::size_t index = 0;
        for (const Argument& argument : command_.arguments()) refuse_swallowed(argument, given, given.values[index++]);
        refuse_rest(given.rest);
        index = 0;
        for (const Argument& argument : command_.arguments()) take_values(argument, given.values[index++]);
    }

    [[noreturn]] void refuse(const std::string& sentence) const {
        fail(ErrorCode::kConfiguration, "{} `{} --help` lists all options.", sentence, called_);
    }

   private:
    [[noreturn]] void refuse_missing_value(const Argument& argument) const {
        const auto is_option = [](const std::string& name) { return is_option_name(name); };
        const std::vector<std::string> names = names_of(argument);
        const auto name = std::find_if(names.begin(), names.end(), is_option);
        refuse(fmt::format("{} needs a value: {}.", name == names.end() ? names[0] : *name, expected_of(argument)));
    }

    /// An option that stands where the value of another should, unless "--" says that it is none.
    void refuse_swallowed(const Argument& argument, const Given& given, const std::vector<std::string>& values) const {
        const bool has_mark = std::find(given.rest.begin(), given.rest.end(), "--") != given.rest.end();
        if (is_positional(argument) && has_mark) return;
        for (const std::string& value : values) {
            const bool is_option = std::find(options_.begin(), options_.end(), without_value(value)) != options_.end();
            if (is_option) refuse_missing_value(argument);
        }
    }

    void refuse_rest(const std::vector<std::string>& rest) const {
        bool by_place = false;  // after "--" everything is
        for (const std::string& argument : rest) {
            if (argument == "--") by_place = true;
            if (!by_place && argument.size() > 1 && is_option_name(argument)) refuse_option(without_value(argument));
        }
        for (const std::string& argument : rest) {
            if (argument == "--") continue;
            refuse(fmt::format("{} is one argument too many.", quoted(argument)));
        }
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
        for (const std::string& option : options_) {
            if (option.ends_with("." + last)) return " Did you mean " + option + "?";
        }
        std::vector<std::string> long_names;  // every short one is near
        std::copy_if(options_.begin(), options_.end(), std::back_inserter(long_names),
                     [](const std::string& option) { return option.starts_with("--"); });
        return suggestion(name, long_names);
    }

    void take_values(const Argument& argument, const std::vector<std::string>& values) const {
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
        for (const std::string& value : values)
            is_flag(argument) ? raise(argument, value) : take_value(argument, value);
    }

    void raise(const Argument& flag, const std::string& value) const {
        if (value != "true") refuse(fmt::format("{} takes no value, but is given {}.", name_of(flag), quoted(value)));
        if (flag.set) (void)flag.set("");
    }

    void take_value(const Argument& argument, const std::string& value) const {
        if (argument.set(value)) return;
        const std::vector<std::string> choices = parts_of(argument.type, '|');
        refuse(fmt::format("{} is {}, not {}.{}", name_of(argument), quoted(value), expected_of(argument),
                           choices.size() > 1 ? suggestion(in_lower_case(value), choices) : ""));
    }

    const Command& command_;
    std::string called_;
    std::vector<std::string> options_;
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
                .standard = value,
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

const Command& CommandLine::command_of(const std::vector<std::string>& arguments) const {
    const auto named = [&](const std::string& name) {
        const auto has_name = [&](const Command& command) { return command.name() == name; };
        return std::find_if(commands_.begin() + 1, commands_.end(), has_name);
    };
    const std::string first = arguments.empty() ? "" : arguments.front();
    if (const auto found = named(first); found != commands_.end()) return *found;
    const Command& whole = commands_.front();
    if (whole.run) return whole;
    std::vector<std::string> names;
    for (const Command& command : commands_) {
        if (!command.name().empty()) names.push_back(command.name());
    }
    if (first.empty()) {
        fail(ErrorCode::kConfiguration, "a command is missing: {}. `{} --help` lists them.", fmt::join(names, ", "),
             program_);
    }
    if (!is_option_name(first)) {
        fail(ErrorCode::kConfiguration, "there is no command {}.{} `{} --help` lists them.", quoted(first),
             suggestion(first, names), program_);
    }
    for (const std::string& argument : arguments) {
        if (named(argument) == commands_.end()) continue;
        fail(ErrorCode::kConfiguration,
             "{} stands before the command {}; it comes after it. `{} {} --help` lists all options.", quoted(first),
             argument, program_, argument);
    }
    return whole;
}

std::function<int()> CommandLine::read(const std::vector<std::string>& arguments) const {
    const Command& command = command_of(arguments);
    const bool is_named = !command.name().empty();
    const Reader reader(command, called(command));
    const Given given = reader.split({arguments.begin() + (is_named ? 1 : 0), arguments.end()});
    const auto print = [](const std::string& text) {
        return [text] {
            fmt::print("{}", text);
            return 0;
        };
    };
    if (reader.asks_for(given, "--help")) return print(help(command));
    if (!is_named && reader.asks_for(given, "--version")) return print(program_ + " " + version_ + "\n");
    reader.take(given);
    return command.run;
}

}  // namespace duologue
