// LastResort: ends the process when a call that cannot be given a deadline does not return.
#pragma once

#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

#include "comm/turn.h"

namespace duologue {

/// What is said and done when the deadline has passed.
struct LastWords {
    double seconds = 0.0;
    int exit_status = 0;
    std::string message;  ///< one line on standard error; "": none, it has been said
    Turn turn{};          ///< when it is said, and by whom of several ranks
};

/// Counts from its making; when it goes in time, nothing happens.
class LastResort {
   public:
    explicit LastResort(LastWords words);
    ~LastResort();
    LastResort(const LastResort&) = delete;
    LastResort& operator=(const LastResort&) = delete;
    LastResort(LastResort&&) = delete;
    LastResort& operator=(LastResort&&) = delete;

   private:
    void run(const LastWords& words);

    std::mutex mutex_;
    std::condition_variable returned_;
    bool in_time_ = false;
    std::thread thread_;  // last: it uses the above
};

}  // namespace duologue
