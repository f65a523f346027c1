// Examination: what is found about MPI and about the ways between the ranks.
#pragma once

#include "duologue/comm/communicator.h"
#include "duologue/core/finding.h"

namespace duologue {

/// The MPI library that runs, against the one that this program was compiled with. MPI need not be initialised.
[[nodiscard]] Finding examine_mpi();

/// Times sums of `bytes` over all ranks in host memory, as gradients are summed on CPUs. Every rank calls it.
[[nodiscard]] Finding examine_all_reduce(World& world, std::int64_t bytes);

}  // namespace duologue
