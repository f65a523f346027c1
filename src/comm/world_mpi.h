// World::Mpi: the part of a World that only src/comm may see.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "comm/channel.h"
#include "duologue/comm/communicator.h"

namespace duologue {

struct World::Mpi {
    explicit Mpi(std::vector<std::string> hosts) : channel(std::move(hosts), situation) {}
    Situation situation;
    Channel channel;
};

}  // namespace duologue
