// One line per event, written with one call so that lines of several ranks do not mix.
#include "duologue/core/log.h"

#include <unistd.h>

#include <string>

namespace duologue {

void Log::write(LogLevel level, std::string_view text) const {
    std::string line;
    if (ranks_ > 1) line += fmt::format("[rank {}] ", rank_);
    if (level == LogLevel::kWarning) line += "warning: ";
    if (level == LogLevel::kError) line += "error: ";
    line += text;
    line += '\n';
    std::string_view rest = line;
    while (!rest.empty()) {
        const ssize_t written = ::write(STDERR_FILENO, rest.data(), rest.size());
        if (written <= 0) return;  // nowhere left to say it
        rest.remove_prefix(static_cast<std::size_t>(written));
    }
}

}  // namespace duologue
