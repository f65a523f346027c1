// Resume: where a run begins: at a checkpoint that rank 0 reads and all get, or at the initial values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "duologue/backend/backend.h"
#include "duologue/comm/communicator.h"
#include "duologue/config/config.h"
#include "duologue/core/log.h"
#include "duologue/train/checkpoint.h"
#include "duologue/train/training_state.h"

namespace duologue {

/// How far a run has come.
struct ResumePoint {
    std::int64_t step = 0;
    std::int64_t skipped_steps = 0;
    DataPosition position;
    std::optional<double> best_validation_loss;  ///< among the checkpoints
};

struct ResumeParts {
    Backend& backend;
    Communicator& communicator;
    World& world;
    const Log& log;
    const CheckpointFolder& folder;
    const ParameterTable& table;
    const TrainingState& state;
};

struct ResumeSettings {
    Resume resume = Resume::kAuto;
    std::uint64_t seed = 1;
    std::string config_json;
    CheckpointDemands demands;
};

/// Fills `state` on every rank. kConfiguration where checkpoints stand in the way of a run that is not to resume.
[[nodiscard]] ResumePoint resume_or_begin(const ResumeParts& parts, const ResumeSettings& settings);

/// 16 hex digits over options that have to be equal on all ranks.
[[nodiscard]] std::string hash_of_options(const std::string& config_json);

/// "train.epochs 3 -> 5, ..." for two configurations in JSON; "" where they are equal.
[[nodiscard]] std::string changed_options(const std::string& before, const std::string& after);

}  // namespace duologue
