// Each declared option of the configuration as an argument.
#include "duologue/arguments/config_options.h"

namespace duologue {

Argument& add_config_option(Command& command, const OptionHelp& option, std::vector<Override>& overrides) {
    const auto set = [&overrides, key = option.key](const std::string& value) {
        Config scratch;
        if (!try_option(scratch, key, value).empty()) return false;
        overrides.push_back({key, value});
        return true;
    };
    return command.add({.names = "--" + option.key,
                        .type = option.type,
                        .range = option.range,
                        .expected = option.expected,
                        .text = option.text,
                        .default_value = option.default_value,
                        .group = option.key.substr(0, option.key.find('.')),
                        .times = Times::kLastCounts,
                        .set = set});
}

void add_config_options(Command& command, const std::string& prefix, std::vector<Override>& overrides) {
    for (const OptionHelp& option : option_help()) {
        if (option.key.starts_with(prefix)) add_config_option(command, option, overrides);
    }
}

}  // namespace duologue
