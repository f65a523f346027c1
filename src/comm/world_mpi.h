// World::Mpi: the part of a World that only src/comm may see.
#pragma once

#include <mpi.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "comm/channel.h"
#include "comm/roll_call.h"
#include "duologue/comm/communicator.h"

namespace duologue {

/// The communicators serve nothing else.
struct WorldCommunicators {
    MPI_Comm channel;
    MPI_Comm presence;
};

struct World::Mpi {
    static constexpr double kDefaultWaitSeconds = 50.0;  // until set_timeout_seconds()

    Mpi(const WorldCommunicators& communicators, Turn turn, int first_process, std::vector<std::string> hosts)
        : situation{.rank = turn.rank,
                    .hosts = std::move(hosts),
                    .timeout_seconds = kDefaultWaitSeconds,
                    .presence = Presence(communicators.presence),
                    .terminated = turn.terminated,
                    .first_process = first_process},
          channel(communicators.channel, situation) {}

    /// After `seconds` the whole job is to be gone. What its end takes at most is not waited: MPI_Abort, the launcher's
    /// SIGTERM and SIGKILL, and the watches over hosts that are cut off.
    void set_timeout_seconds(double seconds) {
        constexpr double kEndSeconds = 10.0;
        constexpr int kSignsInTime = 8;  // so many that a lost moment does not matter
        situation.timeout_seconds = std::max(seconds - kEndSeconds, seconds / 2);
        situation.presence.set_interval(std::chrono::duration<double>(situation.timeout_seconds / kSignsInTime));
    }

    Situation situation;
    Channel channel;  // of the main thread
};

}  // namespace duologue
