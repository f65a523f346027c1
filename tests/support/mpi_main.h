// The ranks that a test program of several ranks runs on.
#pragma once

#include "duologue/comm/communicator.h"

namespace duologue {

[[nodiscard]] World& test_world();

}  // namespace duologue
