// Staged communicator: collectives over a device's memory by a communicator of host memory.
#pragma once

#include <memory>

#include "duologue/backend/backend.h"
#include "duologue/comm/communicator.h"

namespace duologue {

/// What is to be summed is downloaded when it is queued, summed by `host` while the device goes on, and uploaded by
/// join(). For devices that no communicator reaches by itself. `backend` outlives it.
[[nodiscard]] std::unique_ptr<Communicator> make_staged_communicator(Backend& backend,
                                                                     std::unique_ptr<Communicator> host);

}  // namespace duologue
