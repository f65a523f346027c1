// The names of an argument, one by one.
#pragma once

#include <string>
#include <vector>

#include "duologue/arguments/command_line.h"

namespace duologue {

/// The parts of `text` between the `separator`s.
[[nodiscard]] std::vector<std::string> parts_of(const std::string& text, char separator);

inline std::vector<std::string> names_of(const Argument& argument) { return parts_of(argument.names, ','); }
inline bool is_option_name(const std::string& name) { return name.starts_with('-'); }
/// Whether it may be given by its place, without a name.
inline bool is_positional(const Argument& argument) { return !is_option_name(argument.names); }
inline bool is_flag(const Argument& argument) { return argument.type.empty(); }

}  // namespace duologue
