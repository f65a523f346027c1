// RollCall: who of all ranks waits in which operation, so that at a deadline those who are late have names.
#pragma once

#include <mpi.h>

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "comm/presence.h"
#include "comm/turn.h"

namespace duologue {

/// What this rank knows of its job; outlives everything in src/comm.
struct Situation {
    int rank;
    std::vector<std::string> hosts;  ///< by rank
    double timeout_seconds;          ///< of a wait for another rank
    Presence presence;
    const std::atomic<bool>* terminated;  ///< SIGTERM has come; may be null
    int first_process;                    ///< process id of rank 0
    std::atomic<std::int64_t> step = -1;  ///< the last global step that is done; -1: not training yet

    [[nodiscard]] Turn turn() const { return {.rank = rank, .terminated = terminated}; }
    /// "rank 1 on hostb waited 3.0 s in the sum of gradients after step 41".
    [[nodiscard]] std::string describe_wait(const char* what, double waited_seconds) const;
    /// Whether this rank tells for all who wait where the job stood: rank 0, or rank 1 where rank 0 is seen to be gone
    /// or cannot be seen. No rank where one has said why it failed. Calls no MPI.
    [[nodiscard]] bool speaks_for_waiting() const;
    /// Those who may speak for all too: every rank where one is late (all of them wait, and are connected by their
    /// notices); else ranks 0 and 1, and those of this host, which may suffer from the same. No others: connections
    /// made at the end would be news of their own.
    [[nodiscard]] std::vector<int> other_speakers(int exit_status) const;
    /// " (rank 1 of 4 on hostb, after step 41)", for the end of a message; "" for a rank alone.
    [[nodiscard]] std::string where() const;
};

/// A communicator of its own over all ranks, used by one thread. A rank that waits long tells the others which
/// operation it waits in; operations are numbered alike on every rank.
class RollCall {
   public:
    /// `communicator` serves nothing but one thread's collectives and this.
    RollCall(MPI_Comm communicator, Situation& situation);
    ~RollCall();
    RollCall(const RollCall&) = delete;
    RollCall& operator=(const RollCall&) = delete;
    RollCall(RollCall&&) = delete;
    RollCall& operator=(RollCall&&) = delete;

    [[nodiscard]] MPI_Comm communicator() const { return communicator_; }
    [[nodiscard]] Situation& situation() const { return situation_; }
    [[nodiscard]] int rank() const { return situation_.rank; }
    [[nodiscard]] int size() const { return static_cast<int>(situation_.hosts.size()); }

    /// Tells every other rank that this one waits in `operation`.
    void tell(std::int64_t operation);
    /// "rank 1 on hostb, rank 2 on hostc (was writing a checkpoint)": those who have not told that they wait in
    /// `operation` or a later one; in other words where all have.
    [[nodiscard]] std::string late(std::int64_t operation);

   private:
    struct Notice {
        std::int64_t operation = 0;
        MPI_Request request = MPI_REQUEST_NULL;
    };

    void hear();

    MPI_Comm communicator_;
    Situation& situation_;
    std::vector<Notice> told_;           // by peer: the last notice sent
    std::vector<std::int64_t> waiting_;  // by peer: the latest operation that it said it waits in
};

}  // namespace duologue
