// A thread that sleeps until it is called off or the deadline has passed.
#include "comm/last_resort.h"

#include <chrono>
#include <cstdlib>
#include <utility>

#include "duologue/core/log.h"

namespace duologue {

LastResort::LastResort(LastWords words) : thread_([this, words = std::move(words)] { run(words); }) {}

LastResort::~LastResort() {
    {
        const std::lock_guard lock(mutex_);
        in_time_ = true;
    }
    returned_.notify_all();
    thread_.join();
}

void LastResort::run(const LastWords& words) {
    std::unique_lock lock(mutex_);
    if (returned_.wait_for(lock, std::chrono::duration<double>(words.seconds), [this] { return in_time_; })) return;
    if (!words.message.empty()) Log().error("{}", words.message);
    std::_Exit(words.exit_status);
}

}  // namespace duologue
