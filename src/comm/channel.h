// Channel: MPI operations with a deadline; who is late is named. One of the few places that see mpi.h.
#pragma once

#include <mpi.h>

#include <atomic>
#include <cstdint>

#include "comm/roll_call.h"

namespace duologue {

/// Error kCommunication naming `what` unless `status` is MPI_SUCCESS.
void check(int status, const char* what);

/// Used by one thread.
class Channel {
   public:
    Channel(MPI_Comm communicator, Situation& situation) : roll_call_(communicator, situation) {}

    [[nodiscard]] MPI_Comm communicator() const { return roll_call_.communicator(); }
    [[nodiscard]] Situation& situation() const { return roll_call_.situation(); }
    [[nodiscard]] int rank() const { return roll_call_.rank(); }
    [[nodiscard]] int size() const { return roll_call_.size(); }

    /// Waits for a non-blocking collective without holding a core: polls, then sleeps between polls. Error
    /// kCommunication, naming the ranks that have not arrived, when the job's timeout has passed since the wait began
    /// and since another rank gave a sign of being busy. Returns early when `abandoned` (which may be null) is set,
    /// with the operation unfinished.
    void wait(MPI_Request request, const char* what, const std::atomic<bool>* abandoned);

    /// Says, where SIGTERM has come, that this rank waits: when a rank dies without a word, mpirun ends the others with
    /// SIGTERM, and they alone know in which operation it was missed. One of them speaks for all. Calls no MPI, which
    /// may be stuck by then. Any thread.
    void report_when_terminated(const char* what, double waited_seconds);

    /// A communicator over the same ranks. Collective.
    [[nodiscard]] MPI_Comm duplicate();

   private:
    RollCall roll_call_;
    std::int64_t operation_ = 0;  // how many waits have begun; the same on every rank for the same operation
    std::atomic<bool> termination_reported_ = false;
};

}  // namespace duologue
