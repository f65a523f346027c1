// A thread that sleeps until it is called off or the deadline has passed.
#include "comm/last_resort.h"

#include <chrono>
#include <cstdlib>
#include <utility>

#include "duologue/core/log.h"

namespace duologue {

namespace {

// mpirun answers the end of a rank with SIGTERM to the others a second later.
bool speaks(Turn turn) {
    turn.length = std::chrono::milliseconds(1500);
    turn.turns = 3;
    return turn.await() == Turn::Verdict::kSpeak;
}

}  // namespace

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
    lock.unlock();
    if (!words.message.empty() && speaks(words.turn)) Log().error("{}", words.message);
    std::_Exit(words.exit_status);
}

}  // namespace duologue
