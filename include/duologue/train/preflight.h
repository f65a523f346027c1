// Preflight: before the first step, every rank runs the same program on the same data.
#pragma once

#include <string>
#include <vector>

#include "duologue/comm/communicator.h"
#include "duologue/core/error.h"

namespace duologue {

/// Something that has to be equal on all ranks.
struct Fact {
    std::string name;  ///< for example "the vocabulary hash"
    std::string value;
    ErrorCode code = ErrorCode::kConfiguration;  ///< of the error where it differs
};

/// Called by every rank with the same names. Error naming the values and every host that differs from rank 0's.
void require_same_everywhere(World& world, const std::vector<Fact>& facts);

}  // namespace duologue
