// Polling with back-off, notices among the waiting ranks, and the report at the deadline.
#include "comm/channel.h"

#include <algorithm>
#include <array>
#include <thread>
#include <utility>

#include "duologue/core/error.h"
#include "duologue/core/log.h"

namespace duologue {

namespace {

constexpr int kNoticeTag = 1;
constexpr double kNoticeAfterShare =
    0.25;                        // of the deadline: early enough for notices to arrive, rare enough to be free
constexpr int kEagerPolls = 64;  // before the first sleep: short operations end here
// Sleeps grow with the time waited: a transfer under way is polled often, a late rank is waited for cheaply.
constexpr auto kShortestSleep = std::chrono::microseconds(20);
constexpr auto kLongestSleep = std::chrono::microseconds(100);
constexpr int kSleepShare = 64;
constexpr double kLongWaitSeconds = 0.3;  // when the job is ended meanwhile, such a wait is worth a line

}  // namespace

void check(int status, const char* what) {
    if (status == MPI_SUCCESS) return;
    std::array<char, MPI_MAX_ERROR_STRING> text{};
    int length = 0;
    MPI_Error_string(status, text.data(), &length);
    fail(ErrorCode::kCommunication, "MPI failed in {}: {}", what, text.data());
}

Channel::Channel(std::vector<std::string> hosts, const Situation& situation)
    : hosts_(std::move(hosts)), situation_(situation), told_(hosts_.size()), arrived_(hosts_.size(), 0) {
    check(MPI_Comm_dup(MPI_COMM_WORLD, &communicator_), "making a communicator");
    check(MPI_Comm_set_errhandler(communicator_, MPI_ERRORS_RETURN), "setting the error handler");
    check(MPI_Comm_rank(communicator_, &rank_), "asking for the rank");
}

// MPI_Comm_free is left out on purpose: it is collective, and a rank that fails must not wait for the others here.
Channel::~Channel() = default;

void Channel::wait(MPI_Request request, const char* what, double timeout_seconds, const std::atomic<bool>* abandoned) {
    ++operation_;
    const Clock::time_point begin = Clock::now();
    bool told = false;
    for (int poll = 0;; ++poll) {
        int done = 0;
        check(MPI_Test(&request, &done, MPI_STATUS_IGNORE), what);
        if (done != 0) return;
        if (poll < kEagerPolls) {
            std::this_thread::yield();
            continue;
        }
        if (abandoned != nullptr && abandoned->load(std::memory_order_relaxed)) return;
        const Clock::duration passed = Clock::now() - begin;
        const double waited = std::chrono::duration<double>(passed).count();
        if (!told && waited > kNoticeAfterShare * timeout_seconds) {
            tell_the_others();
            told = true;
        }
        if (waited > timeout_seconds) report_the_late(what, waited);
        std::this_thread::sleep_for(std::clamp<Clock::duration>(passed / kSleepShare, kShortestSleep, kLongestSleep));
    }
}

void Channel::tell_the_others() {
    for (int peer = 0; peer < size(); ++peer) {
        Notice& notice = told_[static_cast<std::size_t>(peer)];
        int free = 1;
        if (notice.request != MPI_REQUEST_NULL) check(MPI_Test(&notice.request, &free, MPI_STATUS_IGNORE), "a notice");
        if (peer == rank_ || free == 0) continue;
        notice.operation = operation_;
        check(MPI_Isend(&notice.operation, 1, MPI_INT64_T, peer, kNoticeTag, communicator_, &notice.request),
              "a notice");
    }
    hear_the_others();
}

void Channel::hear_the_others() {
    int waiting = 1;
    while (true) {
        MPI_Status status;
        check(MPI_Iprobe(MPI_ANY_SOURCE, kNoticeTag, communicator_, &waiting, &status), "a notice");
        if (waiting == 0) return;
        std::int64_t& latest = arrived_[static_cast<std::size_t>(status.MPI_SOURCE)];
        std::int64_t operation = 0;
        check(MPI_Recv(&operation, 1, MPI_INT64_T, status.MPI_SOURCE, kNoticeTag, communicator_, MPI_STATUS_IGNORE),
              "a notice");
        latest = std::max(latest, operation);
    }
}

std::string Channel::describe_wait(const char* what, double waited_seconds) const {
    const std::int64_t step = situation_.step;
    return fmt::format("rank {} on {} waited {:.1f} s in {}{}", rank_, hosts_[static_cast<std::size_t>(rank_)],
                       waited_seconds, what, step < 0 ? "" : fmt::format(" after step {}", step));
}

void Channel::report_the_late(const char* what, double waited_seconds) {
    hear_the_others();
    std::string late;
    for (int peer = 0; peer < size(); ++peer) {
        if (peer == rank_ || arrived_[static_cast<std::size_t>(peer)] >= operation_) continue;
        late += fmt::format("{}rank {} on {}", late.empty() ? "" : ", ", peer, hosts_[static_cast<std::size_t>(peer)]);
    }
    if (late.empty()) late = "nobody: all ranks wait, the network between them has failed";
    fail(ErrorCode::kCommunication, "{}; late: {}; look at that process, or raise distributed.timeout_seconds",
         describe_wait(what, waited_seconds), late);
}

void Channel::report_when_terminated(const char* what, double waited_seconds) {
    const std::atomic<bool>* terminated = situation_.terminated;
    if (terminated == nullptr || !*terminated || waited_seconds < kLongWaitSeconds || termination_reported_) return;
    termination_reported_ = true;
    Log(rank_, size()).warning("the job is being ended; {}", describe_wait(what, waited_seconds));
}

}  // namespace duologue
