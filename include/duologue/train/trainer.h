// Trainer: the training loop over steps, validations and checkpoints, the same on every rank.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "duologue/backend/backend.h"
#include "duologue/comm/communicator.h"
#include "duologue/config/config.h"
#include "duologue/core/log.h"
#include "duologue/data/batches.h"
#include "duologue/data/vocabulary.h"
#include "duologue/model/transformer.h"
#include "duologue/train/metrics.h"

namespace duologue {

/// Somebody asks for the end: set by a signal handler of any rank; train.stop_file is the other way to ask. All ranks
/// agree on it after the step in which it is seen, save and return.
struct StopRequest {
    std::atomic<bool> wanted = false;
    std::atomic<bool> terminated = false;  ///< by SIGTERM, after which a launcher may kill
    static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler sets it");
};

struct TrainerSettings {
    TrainConfig train;
    CheckpointConfig checkpoint;
    BatchCapacity capacity;
    std::int64_t bucket_bytes = 4 << 20;
    bool shard_optimizer = false;          ///< each rank keeps and updates its slice of the optimizer's state
    std::string output_path;               ///< checkpoints/ and metrics.jsonl go there
    std::string config_json;               ///< effective configuration, kept in every checkpoint
    std::string program_version;           ///< the same on every rank, or the run is refused
    std::string data_checksum;             ///< of the data's manifest
    double matmul_flops_per_second = 0.0;  ///< measured on this rank; 0: not known, no share is reported
    ProgressStyle progress = ProgressStyle::kLines;
};

/// What the trainer works with. All outlive it. `model` has not been prepared yet.
struct TrainerParts {
    Backend& backend;
    Communicator& communicator;
    World& world;
    const Log& log;
    Transformer& model;
    TrainingData& data;
    const std::vector<Batch>& validation;  ///< may be empty
    const Vocabulary& vocabulary;
    const StopRequest& stop;
};

enum class EndReason : std::uint8_t {
    kFinished,  ///< as many epochs or steps as configured
    kStopped,   ///< StopRequest or train.stop_file
};

struct TrainingResult {
    EndReason reason = EndReason::kFinished;
    std::int64_t step = 0;
    std::int64_t epoch = 0;  ///< epochs completed
    std::int64_t skipped_steps = 0;
    std::optional<double> train_loss;       ///< of the last step of this run; none where nothing was left to do
    std::optional<double> validation_loss;  ///< of the last validation of this run
};

class Trainer {
   public:
    /// Checks that all ranks agree, allocates, and goes on from the newest whole checkpoint or begins anew. Errors:
    /// kConfiguration and kData where ranks, checkpoint and configuration do not fit, kDevice without memory.
    Trainer(TrainerSettings settings, const TrainerParts& parts);
    ~Trainer();
    Trainer(const Trainer&) = delete;
    Trainer& operator=(const Trainer&) = delete;
    Trainer(Trainer&&) = delete;
    Trainer& operator=(Trainer&&) = delete;

    /// Trains until the configured end or a stop, saving at intervals and at the end.
    [[nodiscard]] TrainingResult run();

    /// The master parameters on the host, flat as the model's table says. Every rank calls it.
    [[nodiscard]] std::vector<float> parameters() const;

   private:
    class Run;
    std::unique_ptr<Run> run_;
};

}  // namespace duologue
