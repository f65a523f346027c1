// Checkpoint: everything a run needs to go on, in one HDF5 file that is either whole or not there.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "duologue/core/log.h"
#include "duologue/data/batches.h"
#include "duologue/model/parameters.h"

namespace duologue {

/// Where one parameter lies in the flat arrays.
struct ParameterShape {
    std::string name;
    std::int64_t rows = 0;
    std::int64_t columns = 0;
    std::int64_t offset = 0;  ///< elements
    bool operator==(const ParameterShape&) const = default;
};

[[nodiscard]] std::vector<ParameterShape> parameter_shapes(const ParameterTable& table);

/// What a checkpoint says about itself; cheap to read.
struct CheckpointSummary {
    static constexpr std::int64_t kSchemaVersion = 1;

    std::int64_t schema_version = kSchemaVersion;
    std::int64_t step = 0;                  ///< global steps done, skipped ones included
    std::int64_t skipped_steps = 0;         ///< of these, how many changed nothing because they were not finite
    DataPosition position;                  ///< of the next step
    std::optional<double> validation_loss;  ///< measured at this very step, nats per target token
    std::string vocabulary_hash;
    std::string data_checksum;  ///< of the preprocessed data's manifest
    std::string config;         ///< effective configuration, JSON
    std::vector<ParameterShape> shapes;
};

/// Random numbers need no room: they are functions of seed and step.
struct Checkpoint {
    CheckpointSummary summary;
    std::string vocabulary;     ///< Vocabulary::serialize()
    std::vector<float> values;  ///< master parameters, flat
    std::vector<float> first;   ///< Adam's moments, flat
    std::vector<float> second;
};

/// Writes to a temporary name, closes, reads back and compares, syncs, renames, syncs the folder. kInputOutput where
/// that fails; whatever was at `path` before is then still there and the temporary file is gone.
void write_checkpoint(const std::string& path, const Checkpoint& checkpoint);

/// What a checkpoint of so many elements takes while it is written: itself, what is read back of it at a time, and
/// HDF5's caches.
[[nodiscard]] std::int64_t bytes_of_writing_checkpoint(std::int64_t elements);

/// Of another schema version only `schema_version` is read. kData where the file is damaged, kInputOutput where it
/// cannot be read.
[[nodiscard]] CheckpointSummary read_checkpoint_summary(const std::string& path);

/// The whole file with all its checksums verified. kData where it is damaged or of another schema version.
[[nodiscard]] Checkpoint read_checkpoint(const std::string& path);

/// What a run demands of a checkpoint it goes on from.
struct CheckpointDemands {
    std::string vocabulary_hash;
    std::string data_checksum;
    std::vector<ParameterShape> shapes;
};

/// kConfiguration or kData naming both values where `summary` (of `path`) does not fit.
void require_fits(const CheckpointSummary& summary, const CheckpointDemands& demands, const std::string& path);

/// The checkpoints of one run: step-000001200.h5 and so on.
class CheckpointFolder {
   public:
    explicit CheckpointFolder(std::string path) : path_(std::move(path)) {}

    [[nodiscard]] std::string file_of(std::int64_t step) const;
    [[nodiscard]] std::vector<std::int64_t> steps() const;  ///< ascending; none where there is no folder

    /// Removes temporary files that a killed run left.
    void remove_unfinished() const;
    /// Writes, then removes all but the newest `keep_last` and the best by validation loss.
    void save(const Checkpoint& checkpoint, std::int64_t keep_last) const;
    /// The newest whole checkpoint; damaged ones are reported and passed over. None where there is no checkpoint at
    /// all. kData where every one is damaged; require_fits() and the schema version of the newest readable one decide
    /// whether it is refused.
    [[nodiscard]] std::optional<Checkpoint> newest(const CheckpointDemands& demands, const Log& log) const;

   private:
    void remove_surplus(std::int64_t keep_last) const;
    std::string path_;
};

}  // namespace duologue
