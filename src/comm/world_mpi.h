// World::Mpi: the part of a World that only src/comm may see.
#pragma once

#include <mpi.h>

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
    Mpi(const WorldCommunicators& communicators, int rank, std::vector<std::string> hosts)
        : situation{.rank = rank,
                    .hosts = std::move(hosts),
                    .timeout_seconds = 60.0,
                    .presence = Presence(communicators.presence)},
          channel(communicators.channel, situation) {}

    void set_timeout_seconds(double seconds) {
        constexpr int kSignsInTime = 8;  // so many that a lost moment does not matter
        situation.timeout_seconds = seconds;
        situation.presence.set_interval(std::chrono::duration<double>(seconds / kSignsInTime));
    }

    Situation situation;
    Channel channel;  // of the main thread
};

}  // namespace duologue
