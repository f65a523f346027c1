// Waiting for lower ranks: a launcher answers the first failure with SIGTERM to all.
#include "comm/turn.h"

#include <algorithm>
#include <thread>

namespace duologue {

namespace {

// A launcher that ends a job asks every rank to end and kills it a second later.
constexpr auto kUntilKilled = std::chrono::milliseconds(1500);
constexpr auto kPause = std::chrono::milliseconds(10);

}  // namespace

Turn::Verdict Turn::await(const std::function<bool()>& told) const {
    const bool before = is_terminated();
    auto left = length * std::min(rank, turns);
    if (before) left += kUntilKilled;  // perhaps because the job is being ended already
    for (; left.count() > 0; left -= kPause) {
        std::this_thread::sleep_for(kPause);
        if ((is_terminated() && !before) || (told && told())) return Verdict::kKeepSilent;
    }
    return Verdict::kSpeak;
}

}  // namespace duologue
