// Readiness: whether a machine is fit for a training: cores, memory, disk and data, each held against what is needed.
#pragma once

#include <cstdint>
#include <string>

#include "duologue/config/config.h"
#include "duologue/core/finding.h"
#include "duologue/core/host.h"

namespace duologue {

/// `local_ranks` processes share the host, with `threads` each (0: as many as they can).
[[nodiscard]] Findings examine_cores(const HostFacts& host, int local_ranks, int threads);

/// `needed_bytes`: of all ranks of the host; 0: not known.
[[nodiscard]] Findings examine_memory(const HostFacts& host, int local_ranks, std::int64_t needed_bytes);

/// What a run keeps at output.path at most: `kept` checkpoints, the best one, the one being written, and the model.
[[nodiscard]] std::int64_t output_bytes(std::int64_t parameters, std::int64_t kept);

/// Whether a file can be written at `path`, and whether there is room for `needed_bytes` (0: not known).
[[nodiscard]] Finding examine_output(const std::string& path, std::int64_t needed_bytes);

/// Manifest, vocabulary, and all of every shard that can be checked without reading its tokens.
[[nodiscard]] Finding examine_data(const std::string& path);

}  // namespace duologue
