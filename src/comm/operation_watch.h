// OperationWatch: which of the operations queued on a device is due, and whether it has been for too long.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>

namespace duologue {

/// Knows no device: it is told when an operation is queued and when the oldest has run, with the time of each.
class OperationWatch {
   public:
    using Time = std::chrono::steady_clock::time_point;

    /// An operation that does not end.
    struct Stall {
        const char* what = "";
        std::int64_t number = 0;  ///< 1-based, alike on every rank
        double waited_seconds = 0.0;
    };

    /// `what` is a literal.
    void queued(const char* what, Time now);
    /// The oldest operation has run.
    void ran(Time now);
    [[nodiscard]] bool empty() const { return operations_.empty(); }
    [[nodiscard]] std::int64_t number() const { return ran_ + 1; }  ///< of the oldest operation that has not run

    /// The oldest operation where nothing has run for longer than `seconds`, counted from when it became the oldest,
    /// and from `latest_sign`, when another rank said that it is alive and busy.
    [[nodiscard]] std::optional<Stall> stalled(double seconds, Time latest_sign, Time now) const;

   private:
    std::deque<const char*> operations_;
    std::int64_t ran_ = 0;
    Time begin_;  // of waiting for the oldest
};

}  // namespace duologue
