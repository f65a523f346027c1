// Presence: a rank that is busy on its own for long says so, and what with, so that those who wait for it go on
// waiting.
#pragma once

#include <mpi.h>

#include <array>
#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace duologue {

/// A process that no longer runs gives no signs, so that it is late in time whatever it was busy with. Any thread.
class Presence {
   public:
    using Clock = std::chrono::steady_clock;

    /// `communicator` serves nothing else.
    explicit Presence(MPI_Comm communicator);
    ~Presence();
    Presence(const Presence&) = delete;
    Presence& operator=(const Presence&) = delete;
    Presence(Presence&&) = delete;
    Presence& operator=(Presence&&) = delete;

    /// Signs are given so often. Not while busy.
    void set_interval(std::chrono::duration<double> interval) { interval_ = interval; }

    /// Gives signs as long as the token lives. `what` is a literal.
    [[nodiscard]] std::shared_ptr<void> busy(const char* what);

    /// When the latest sign of any other rank came; none yet: the epoch of the clock.
    [[nodiscard]] Clock::time_point latest_sign();
    /// What `peer` said last that it was busy with; "" where it never was.
    [[nodiscard]] std::string said(int peer);

    /// Tells these ranks that this one has said why the job ends.
    void announce_failure(const std::vector<int>& ranks);
    /// Listens for announcements. By MPI, which may be stuck after a failure: in time.
    void hear_failure();
    /// Whether one has been heard.
    [[nodiscard]] bool failure_is_told() const { return failure_is_told_; }

   private:
    using Text = std::array<char, 96>;
    struct Sign {
        Text text{};
        MPI_Request request = MPI_REQUEST_NULL;
    };
    class Busy;

    void give_sign(const char* what);
    void hear();

    MPI_Comm communicator_;
    std::chrono::duration<double> interval_{5.0};
    int rank_ = 0;
    std::mutex mutex_;         // of all below
    std::vector<Sign> given_;  // by peer: the last sign sent
    std::vector<Text> heard_;  // by peer: the last sign received
    Clock::time_point latest_;
    std::atomic<bool> failure_is_told_ = false;
};

}  // namespace duologue
