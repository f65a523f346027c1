// What commands share of the command line.
#include "commands/program.h"

namespace duologue {

void add_json_option(CLI::App& command, ReportStyle& style) {
    command.add_flag_callback(
        "--json", [&style] { style = ReportStyle::kJson; }, "print it as JSON");
}

}  // namespace duologue
