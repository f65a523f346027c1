// One look a second.
#include "train/stop_file.h"

#include <filesystem>

namespace duologue {

bool StopFile::exists() {
    constexpr auto kInterval = std::chrono::seconds(1);
    const Clock::time_point now = Clock::now();
    if (path_.empty() || seen_ || now < next_look_) return seen_;
    next_look_ = now + kInterval;
    std::error_code cannot_tell;  // a file system that does not answer now is asked again
    seen_ = std::filesystem::exists(path_, cannot_tell);
    return seen_;
}

}  // namespace duologue
