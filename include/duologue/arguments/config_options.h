// The options of the configuration as options of a command.
#pragma once

#include <string>
#include <vector>

#include "duologue/arguments/command_line.h"
#include "duologue/config/config.h"

namespace duologue {

/// Adds --section.key. A value that the configuration would take goes to `overrides`, which lives as long as `command`.
Argument& add_config_option(Command& command, const OptionHelp& option, std::vector<Override>& overrides);

/// All whose keys begin with `prefix`.
void add_config_options(Command& command, const std::string& prefix, std::vector<Override>& overrides);

}  // namespace duologue
