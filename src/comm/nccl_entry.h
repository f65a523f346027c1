// NcclCommunicator inside the module of CUDA.
#pragma once

#include <memory>

#include "duologue/comm/nccl_communicator.h"

namespace duologue::nccl {

/// What make_nccl_communicator() promises.
[[nodiscard]] std::unique_ptr<Communicator> make_communicator(World& world, const NcclOptions& options);

}  // namespace duologue::nccl
