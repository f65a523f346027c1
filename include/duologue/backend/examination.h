// Examination: what a back end says about the machine it would run on. Each back end contributes its own findings.
#pragma once

#include <cstdint>

#include "duologue/core/finding.h"

namespace duologue {

/// Processor, library version, and by which code and how fast matrices are multiplied with so many threads (0: every
/// core this process may use).
[[nodiscard]] Findings examine_cpu(int threads);

/// Driver, libraries, and the GPU of this rank. `local_rank` of `local_ranks` on this host takes a GPU of its own.
/// `wanted`: whether the training would run on a GPU, so that a missing one is a failure and no mere fact.
enum class GpuWanted : std::uint8_t { kNo, kYes };
[[nodiscard]] Findings examine_cuda(int local_rank, int local_ranks, GpuWanted wanted);

}  // namespace duologue
