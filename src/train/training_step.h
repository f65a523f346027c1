// TrainingStep: one global step, queued as a whole: micro-batches, sums over the ranks, Adam.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "duologue/comm/communicator.h"
#include "duologue/train/gradient_sync.h"
#include "duologue/train/micro_batch.h"
#include "duologue/train/training_state.h"

namespace duologue {

/// Sums over all micro-batches of all ranks.
struct StepSums {
    double loss = 0.0;
    double labels = 0.0;
    double stop_votes = 0.0;
    double source_tokens = 0.0;
    double target_tokens = 0.0;
    double giga_flops = 0.0;
    double peak_giga_flops_per_second = 0.0;
    double squared_gradients = 0.0;  ///< sum of squares of the summed gradients

    /// Whether the device has taken the optimizer's step: by AdamW's rule.
    [[nodiscard]] bool finite() const;
    [[nodiscard]] double gradient_norm() const;  ///< of the mean loss
};

enum class StopVote : std::uint8_t { kGoOn, kStop };

struct StepNumbers {
    std::int64_t step = 1;    ///< 1-based
    std::int64_t update = 1;  ///< the optimizer's, 1-based: without the steps that were left out
    double learning_rate = 0.0;
};

/// What every step works with; all outlive it.
struct StepParts {
    Backend& backend;
    Arena& arena;
    Communicator& communicator;
    const Transformer& model;
    const TrainingState& state;
    const TrainingPlan& plan;
    const BatchCapacity& capacity;
    const TrainConfig& config;
    double matmul_flops_per_second = 0.0;  ///< of this rank
};

class TrainingStep {
   public:
    explicit TrainingStep(const StepParts& parts);

    /// Queues gradients and statistics of the step, summed over the ranks, and the optimizer's update, which the device
    /// leaves out where they are not finite. Dropout of micro-batch j is keyed by (seed, step, j), whichever rank it
    /// runs on. Every rank calls it.
    void queue(const GlobalStep& batches, const StepNumbers& numbers, StopVote vote);

    /// Brings the first micro-batch of `step`, which comes next, to the device while it works on what is queued.
    void prefetch(const GlobalStep& batches, std::int64_t step);

    /// Waits for the step that is queued: the only time that the host waits for the device.
    [[nodiscard]] StepSums wait();

    /// Device memory that is free between steps, f32 [2].
    [[nodiscard]] Tensor scratch() const { return statistics_.column_range(0, 2); }

   private:
    enum Statistic : std::int64_t {
        kLoss,
        kLabels,
        kStopVotes,
        kSourceTokens,
        kTargetTokens,
        kGigaFlops,
        kPeak,
        kStatistics,
    };
    using Statistics = std::array<float, kStatistics>;

    /// Which micro-batch of which step.
    struct Turn {
        std::int64_t step = 0;
        std::size_t micro_batch = 0;
        bool operator==(const Turn&) const = default;
    };

    /// kDuringBackward: sums of gradients are queued as soon as they are final.
    enum class Summing : std::uint8_t { kLater, kDuringBackward };

    void run_micro_batches(const GlobalStep& batches, std::int64_t step);
    void run_uploaded(Summing summing);
    void upload(const Batch& batch, const Turn& turn);
    void sum_squares();
    void update(const StepNumbers& numbers);
    void gather_weights();
    [[nodiscard]] Statistics local_statistics(const GlobalStep& batches, StopVote vote) const;

    StepParts parts_;
    std::unique_ptr<Repeater> repeater_;
    GradientSync sync_;
    DeviceBuffer memory_;
    Tensor statistics_;  // f32 [kStatistics]
    Tensor square_sum_;  // f32 [1], behind them
    DeviceBuffer batch_memory_;
    DeviceBatch batch_;  // in batch_memory_
    Turn uploaded_;      // what batch_ is
};

}  // namespace duologue
