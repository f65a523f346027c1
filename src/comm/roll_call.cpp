// Notices between waiting ranks: small, sent when a wait has become long, received while waiting.
#include "comm/roll_call.h"

#include <fmt/format.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): POSIX's kill()

#include <algorithm>

#include "comm/channel.h"
#include "duologue/core/error.h"

namespace duologue {

namespace {
constexpr int kNoticeTag = 1;
}

std::string Situation::describe_wait(const char* what, double waited_seconds) const {
    const std::int64_t done = step;
    return fmt::format("rank {} on {} waited {:.1f} s in {}{}", rank, hosts[static_cast<std::size_t>(rank)],
                       waited_seconds, what, done < 0 ? "" : fmt::format(" after step {}", done));
}

bool Situation::speaks_for_waiting() const {
    if (presence.failure_is_told() || rank > 1) return false;
    return rank == 0 || hosts[0] != hosts[1] || ::kill(first_process, 0) != 0;
}

std::vector<int> Situation::other_speakers(int exit_status) const {
    const bool all = exit_status == static_cast<int>(ErrorCode::kCommunication);
    std::vector<int> ranks;
    for (int other = 0; other < static_cast<int>(hosts.size()); ++other) {
        const auto i = static_cast<std::size_t>(other);
        if (other != rank && (all || other < 2 || hosts[i] == hosts[static_cast<std::size_t>(rank)]))
            ranks.push_back(other);
    }
    return ranks;
}

std::string Situation::where() const {
    if (hosts.size() == 1) return "";
    const std::int64_t done = step;
    return fmt::format(" (rank {} of {} on {}{})", rank, hosts.size(), hosts[static_cast<std::size_t>(rank)],
                       done < 0 ? "" : fmt::format(", after step {}", done));
}

RollCall::RollCall(MPI_Comm communicator, Situation& situation)
    : communicator_(communicator),
      situation_(situation),
      told_(situation.hosts.size()),
      waiting_(situation.hosts.size(), 0) {
    check(MPI_Comm_set_errhandler(communicator_, MPI_ERRORS_RETURN), "setting the error handler");
}

// MPI_Comm_free is left out on purpose: it is collective, and a rank that fails must not wait for the others here.
RollCall::~RollCall() = default;

void RollCall::tell(std::int64_t operation) {
    for (int peer = 0; peer < size(); ++peer) {
        Notice& notice = told_[static_cast<std::size_t>(peer)];
        int free = 1;
        if (notice.request != MPI_REQUEST_NULL) check(MPI_Test(&notice.request, &free, MPI_STATUS_IGNORE), "a notice");
        if (peer == rank() || free == 0) continue;
        notice.operation = operation;
        check(MPI_Isend(&notice.operation, 1, MPI_INT64_T, peer, kNoticeTag, communicator_, &notice.request),
              "a notice");
    }
    hear();
}

void RollCall::hear() {
    while (true) {
        int waiting = 0;
        MPI_Status status;
        check(MPI_Iprobe(MPI_ANY_SOURCE, kNoticeTag, communicator_, &waiting, &status), "a notice");
        if (waiting == 0) return;
        std::int64_t& latest = waiting_[static_cast<std::size_t>(status.MPI_SOURCE)];
        std::int64_t operation = 0;
        check(MPI_Recv(&operation, 1, MPI_INT64_T, status.MPI_SOURCE, kNoticeTag, communicator_, MPI_STATUS_IGNORE),
              "a notice");
        latest = std::max(latest, operation);
    }
}

std::string RollCall::late(std::int64_t operation) {
    hear();
    std::string names;
    for (int peer = 0; peer < size(); ++peer) {
        if (peer == rank() || waiting_[static_cast<std::size_t>(peer)] >= operation) continue;
        const std::string said = situation_.presence.said(peer);
        names += fmt::format("{}rank {} on {}{}", names.empty() ? "" : ", ", peer,
                             situation_.hosts[static_cast<std::size_t>(peer)],
                             said.empty() ? "" : fmt::format(" (last heard of while {})", said));
    }
    return names.empty() ? "nobody: all ranks wait, the network between them has failed" : names;
}

}  // namespace duologue
