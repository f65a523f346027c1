// Turn: ranks that fail at once speak one after the other, so that one of them says for all what has happened.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>

namespace duologue {

/// Knows no MPI, which may be stuck when a rank fails.
struct Turn {
    int rank = 0;
    const std::atomic<bool>* terminated = nullptr;  ///< SIGTERM has come; null: nobody listens to it
    std::chrono::milliseconds length{400};          ///< MPI_Abort ends the other ranks within one
    int turns = 6;                                  ///< ranks above this share the last

    enum class Verdict : std::uint8_t { kSpeak, kKeepSilent };

    [[nodiscard]] bool is_terminated() const { return terminated != nullptr && *terminated; }
    /// Waits until those of lower ranks have had the time to speak; kKeepSilent where the job is being ended meanwhile,
    /// since one of them has spoken then, or where `told`, which is asked now and then, says that one has.
    [[nodiscard]] Verdict await(const std::function<bool()>& told = {}) const;
};

}  // namespace duologue
