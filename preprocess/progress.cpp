// Drawing and wiping the progress line.
#include "progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

namespace duologue::preprocess {

namespace {
constexpr std::chrono::milliseconds kInterval{200};
}

Progress::Progress(std::string label, std::int64_t total_bytes)
    : label_(std::move(label)), total_bytes_(total_bytes), on_terminal_(::isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() {
    if (on_terminal_) std::fputs("\r\033[K", stderr);
}

void Progress::update(std::int64_t bytes_done) {
    const Clock::time_point now = Clock::now();
    if (!on_terminal_ || now - drawn_ < kInterval) return;
    drawn_ = now;
    const double seconds = std::chrono::duration<double>(now - start_).count();
    const double megabytes = static_cast<double>(bytes_done) / 1e6;
    const double rate = megabytes / std::max(seconds, 1e-3);
    const double left = static_cast<double>(total_bytes_ - bytes_done) / 1e6 / std::max(rate, 1e-3);
    const double percent =
        100.0 * static_cast<double>(bytes_done) / static_cast<double>(std::max<std::int64_t>(total_bytes_, 1));
    const std::string line = fmt::format("\r\033[K{}: {:.0f} %, {:.0f} MB, {:.1f} MB/s, {:.0f} s left", label_, percent,
                                         megabytes, rate, left);
    std::fputs(line.c_str(), stderr);
    std::fflush(stderr);
}

}  // namespace duologue::preprocess
