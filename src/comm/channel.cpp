// Polling with back-off, and the report at the deadline.
#include "comm/channel.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <thread>

#include "duologue/core/error.h"
#include "duologue/core/log.h"

namespace duologue {

namespace {

using Clock = Presence::Clock;

constexpr double kNoticeAfterShare =
    0.25;  // of the deadline: early enough for notices to arrive, rare enough to be free
// Polling without a pause, where short operations end. Never a yield: on a core that others want it costs a whole slice
// of theirs, while a thread that slept gets the core back at once.
constexpr auto kEagerTime = std::chrono::microseconds(20);
// Sleeps grow with the time waited: a transfer under way is polled often, a late rank is waited for cheaply.
constexpr auto kShortestSleep = std::chrono::microseconds(20);
constexpr auto kLongestSleep = std::chrono::microseconds(100);
constexpr int kSleepShare = 64;

constexpr double kLongWaitSeconds = 0.3;  // when the job is ended meanwhile, such a wait is worth a line

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

}  // namespace

void check(int status, const char* what) {
    if (status == MPI_SUCCESS) return;
    std::array<char, MPI_MAX_ERROR_STRING> text{};
    int length = 0;
    MPI_Error_string(status, text.data(), &length);
    fail(ErrorCode::kCommunication, "MPI failed in {}: {}", what, text.data());
}

void Channel::wait(MPI_Request request, const char* what, const std::atomic<bool>* abandoned) {
    ++operation_;
    const double timeout_seconds = situation().timeout_seconds;
    const Clock::time_point begin = Clock::now();
    bool told = false;
    while (true) {
        int done = 0;
        check(MPI_Test(&request, &done, MPI_STATUS_IGNORE), what);
        if (done != 0) return;
        const Clock::duration passed = Clock::now() - begin;
        if (passed < kEagerTime) continue;
        if (abandoned != nullptr && abandoned->load(std::memory_order_relaxed)) return;
        const double waited = std::chrono::duration<double>(passed).count();
        if (!told && waited > kNoticeAfterShare * timeout_seconds) {
            roll_call_.tell(operation_);
            told = true;
        }
        if (waited > kLongWaitSeconds) situation().presence.hear_failure();
        report_when_terminated(what, waited);
        if (waited > timeout_seconds && seconds_since(situation().presence.latest_sign()) > timeout_seconds) {
            fail(ErrorCode::kCommunication, "{}; late: {}; look at that process, or raise distributed.timeout_seconds",
                 situation().describe_wait(what, waited), roll_call_.late(operation_));
        }
        std::this_thread::sleep_for(std::clamp<Clock::duration>(passed / kSleepShare, kShortestSleep, kLongestSleep));
    }
}

void Channel::report_when_terminated(const char* what, double waited_seconds) {
    if (!situation().turn().is_terminated() || waited_seconds < kLongWaitSeconds ||
        termination_reported_.exchange(true) || !situation().speaks_for_waiting())
        return;
    Log(rank(), size()).warning("the job is being ended; {}", situation().describe_wait(what, waited_seconds));
}

MPI_Comm Channel::duplicate() {
    MPI_Comm copy = MPI_COMM_NULL;
    MPI_Request request = MPI_REQUEST_NULL;
    check(MPI_Comm_idup(communicator(), &copy, &request), "setting up the ranks' connections");
    wait(request, "setting up the ranks' connections", nullptr);
    return copy;
}

}  // namespace duologue
