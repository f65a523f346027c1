// Options from JSON, from files and from the command line; options as JSON and as help.
#include "duologue/config/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "duologue/config/nearest.h"
#include "duologue/core/durable_file.h"
#include "duologue/core/error.h"
#include "schema.h"

namespace duologue {

namespace {

using nlohmann::json;
using OrderedJson = nlohmann::ordered_json;

/// Sets `key`; what is wrong with it, or "".
std::string problem_of(Config& config, const std::vector<Option>& options, std::string_view key, const json& value) {
    const auto found = std::find_if(options.begin(), options.end(), [&](const Option& o) { return o.help.key == key; });
    if (found == options.end()) {
        std::vector<std::string> keys;
        keys.reserve(options.size());
        for (const Option& known : options) keys.push_back(known.help.key);
        return fmt::format("there is no option {}.{} `duologue train --help` lists them all", key,
                           suggestion(key, keys));
    }
    if (found->set(config, value)) return "";
    const std::string shown = value.dump(-1, ' ', false, json::error_handler_t::replace);
    return fmt::format("{} = {} is not {}", key, shown, found->help.expected);
}

/// JSON text as a tree; a key that stands twice in one object is an error, where the parser would drop the first.
json parse(std::string_view text, const std::string& source) {
    std::vector<std::set<std::string>> seen;
    std::string twice;
    const auto watch = [&](int, json::parse_event_t event, json& value) {
        if (event == json::parse_event_t::object_start) seen.emplace_back();
        if (event == json::parse_event_t::object_end) seen.pop_back();
        if (event == json::parse_event_t::key && !seen.back().insert(value.get<std::string>()).second) twice = value;
        return true;
    };
    try {
        json tree = json::parse(text, watch);
        require(twice.empty(), ErrorCode::kConfiguration, "{}: '{}' stands twice in one object", source, twice);
        return tree;
    } catch (const json::exception& error) {
        fail(ErrorCode::kConfiguration, "{} is not valid JSON: {}", source, error.what());
    }
}

using Flat = std::vector<std::pair<std::string, json>>;

void flatten(const json& node, const std::string& prefix, Flat& flat) {
    if (!node.is_object()) {
        flat.emplace_back(prefix, node);
        return;
    }
    for (const auto& [name, value] : node.items()) flatten(value, prefix.empty() ? name : prefix + "." + name, flat);
}

OrderedJson as_tree(const Config& config) {
    OrderedJson tree;
    for (const Option& option : all_options()) {
        const std::string& key = option.help.key;
        const std::size_t dot = key.find('.');
        tree[key.substr(0, dot)][key.substr(dot + 1)] = option.get(config);
    }
    return tree;
}

bool is_override(const std::string& argument) {
    return argument.starts_with("--") && argument.substr(0, argument.find('=')).find('.') != std::string::npos;
}

}  // namespace

void read_config(Config& config, std::string_view text, const std::string& source) {
    const json tree = parse(text, source);
    require(tree.is_object(), ErrorCode::kConfiguration, "{}: the options must be a JSON object", source);
    Flat flat;
    flatten(tree, "", flat);
    const std::vector<Option> options = all_options();
    std::set<std::string> seen;
    for (const auto& [key, value] : flat) {
        const std::string problem = problem_of(config, options, key, value);
        require(problem.empty(), ErrorCode::kConfiguration, "{}: {}", source, problem);
        require(seen.insert(key).second, ErrorCode::kConfiguration, "{}: {} stands twice", source, key);
    }
}

void read_config_file(Config& config, const std::string& path) { read_config(config, read_file(path), path); }

std::string try_option(Config& config, std::string_view key, std::string_view value) {
    const std::vector<Option> options = all_options();
    const json literal = json::parse(value, nullptr, false);
    const bool is_literal = literal.is_number() || literal.is_boolean();
    if (is_literal && problem_of(config, options, key, literal).empty()) return "";
    return problem_of(config, options, key, std::string(value));
}

std::vector<Override> take_overrides(std::vector<std::string>& arguments) {
    std::vector<Override> overrides;
    std::vector<std::string> rest;
    for (std::size_t i = 0; i < arguments.size(); ++i) {
        const std::string& argument = arguments[i];
        if (!is_override(argument)) {
            rest.push_back(argument);
            continue;
        }
        const std::size_t equals = argument.find('=');
        const std::string key = argument.substr(2, equals - 2);
        require(equals != std::string::npos || i + 1 < arguments.size(), ErrorCode::kConfiguration,
                "command line: --{} needs a value", key);
        overrides.push_back({key, equals != std::string::npos ? argument.substr(equals + 1) : arguments[++i]});
    }
    arguments = std::move(rest);
    return overrides;
}

void apply_overrides(Config& config, const std::vector<Override>& overrides) {
    for (const auto& [key, value] : overrides) {
        const std::string problem = try_option(config, key, value);
        require(problem.empty(), ErrorCode::kConfiguration, "command line: {}", problem);
    }
}

std::string print_config(const Config& config) { return as_tree(config).dump(2) + "\n"; }

std::vector<OptionHelp> option_help() {
    const Config defaults;
    std::vector<OptionHelp> all;
    for (const Option& option : all_options()) {
        const json value = option.get(defaults);
        all.push_back(option.help);
        all.back().default_value = value.is_string() ? value.get<std::string>() : value.dump();
    }
    return all;
}

}  // namespace duologue
