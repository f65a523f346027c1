// Channel: MPI operations with a deadline; who is late is named. One of the few places that see mpi.h.
#pragma once

#include <mpi.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace duologue {

/// Error kCommunication naming `what` unless `status` is MPI_SUCCESS.
void check(int status, const char* what);

/// What a rank is at, for its messages about others. Written by the rank and its signal handlers, read by who waits.
struct Situation {
    std::atomic<std::int64_t> step = -1;            ///< the last global step that is done; -1: not training yet
    const std::atomic<bool>* terminated = nullptr;  ///< SIGTERM has come
};

/// A communicator of its own over all ranks, used by one thread. A rank that waits long tells the others what it is
/// waiting in, so that at the deadline those who are late can be told from those who wait as well.
class Channel {
   public:
    /// Collective; `hosts` by rank. `situation` outlives it.
    Channel(std::vector<std::string> hosts, const Situation& situation);
    ~Channel();
    Channel(const Channel&) = delete;
    Channel& operator=(const Channel&) = delete;
    Channel(Channel&&) = delete;
    Channel& operator=(Channel&&) = delete;

    [[nodiscard]] MPI_Comm communicator() const { return communicator_; }
    [[nodiscard]] const std::vector<std::string>& hosts() const { return hosts_; }
    [[nodiscard]] const Situation& situation() const { return situation_; }
    [[nodiscard]] int rank() const { return rank_; }
    [[nodiscard]] int size() const { return static_cast<int>(hosts_.size()); }

    /// Waits for a non-blocking collective without holding a core: polls, then sleeps between polls. Error
    /// kCommunication after `timeout_seconds`, naming the ranks that have not arrived; returns early when `abandoned`
    /// (which may be null) is set, with the operation unfinished.
    void wait(MPI_Request request, const char* what, double timeout_seconds, const std::atomic<bool>* abandoned);

    /// Says once, where SIGTERM has come, that this rank waits: when a rank dies without a word, mpirun ends the others
    /// with SIGTERM, and they alone know in which operation it was missed. Calls no MPI, which may be stuck by then,
    /// and may be called by another thread than wait().
    void report_when_terminated(const char* what, double waited_seconds);

   private:
    using Clock = std::chrono::steady_clock;
    struct Notice {
        std::int64_t operation = 0;
        MPI_Request request = MPI_REQUEST_NULL;
    };

    void tell_the_others();
    void hear_the_others();
    [[nodiscard]] std::string describe_wait(const char* what, double waited_seconds) const;
    [[noreturn]] void report_the_late(const char* what, double waited_seconds);

    std::vector<std::string> hosts_;
    const Situation& situation_;
    int rank_ = 0;
    MPI_Comm communicator_ = MPI_COMM_NULL;
    std::int64_t operation_ = 0;         // how many waits have begun; the same on every rank for the same operation
    std::vector<Notice> told_;           // by rank: the last notice sent
    std::vector<std::int64_t> arrived_;  // by rank: the latest operation that it said it is waiting in
    bool termination_reported_ = false;
};

}  // namespace duologue
