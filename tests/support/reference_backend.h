// The reference back end: naive loops in double over host memory. It is the specification of every operation.
#pragma once

#include <memory>

#include "duologue/backend/backend.h"

namespace duologue {

/// Beyond the contract it also checks the values of tokens, positions, targets, lengths and offsets (Error kInternal),
/// which a device cannot afford to.
[[nodiscard]] std::unique_ptr<Backend> make_reference_backend();

}  // namespace duologue
