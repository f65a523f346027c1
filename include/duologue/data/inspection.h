// Inspection: what vocabularies, shards and data folders hold, and whether they are whole, for people who ask.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "duologue/config/config.h"
#include "duologue/core/finding.h"
#include "duologue/core/report.h"
#include "duologue/data/shards.h"
#include "duologue/data/vocabulary.h"

namespace duologue {

/// The HDF5 library that runs, against the one that this program was compiled with.
[[nodiscard]] Finding examine_hdf5();

[[nodiscard]] Report describe_vocabulary(const Vocabulary& vocabulary);

/// A shard, by its own word or by that of the manifest beside it.
struct InspectedShard {
    ShardHeader header;
    Shard shard;
    bool listed = false;  ///< a manifest beside it names it, and it is as the manifest says
};

/// Reads a shard and checks all that can be checked: its checksums, its counts, the manifest and the vocabulary beside
/// it where they are there. kData where something does not fit, kInputOutput where it cannot be read.
[[nodiscard]] InspectedShard inspect_shard(const std::string& path);
[[nodiscard]] Report describe_shard(const InspectedShard& inspected);

/// A folder written by duologue-preprocess. `shards`: how each was found to be.
struct InspectedData {
    Report report;
    std::vector<std::string> problems;  ///< one per damaged shard
};

/// Reads manifest, vocabulary and every shard. kData or kInputOutput where the first two cannot be used; what is wrong
/// with a shard is told in the result.
[[nodiscard]] InspectedData inspect_data(const std::string& folder);

/// A conversation of a shard, and the examples that are trained on it with this configuration.
[[nodiscard]] Report describe_conversation(const Shard& shard, std::int64_t conversation, const Vocabulary& vocabulary,
                                           const DataConfig& config, ModelKind kind);

}  // namespace duologue
