// TrainingStep: one global step: micro-batches, sums over the ranks, Adam.
#pragma once

#include <array>
#include <cstdint>

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

    [[nodiscard]] bool finite() const;
    [[nodiscard]] double gradient_norm() const;  ///< of the mean loss
};

enum class StopVote : std::uint8_t { kGoOn, kStop };

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

    /// Gradients and statistics of global step `step` (1-based), summed over the ranks. Dropout of micro-batch j is
    /// keyed by (seed, step, j), whichever rank it runs on.
    [[nodiscard]] StepSums accumulate(const GlobalStep& batches, std::int64_t step, StopVote vote);

    /// The optimizer's update number `update` (1-based) with the gradients that accumulate() left. Every rank calls it.
    void apply(std::int64_t update, double learning_rate);

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

    void run_micro_batches(const GlobalStep& batches, std::int64_t step);
    void sum_squares();
    void gather_weights();
    [[nodiscard]] Statistics local_statistics(const GlobalStep& batches, StopVote vote) const;

    StepParts parts_;
    GradientSync sync_;
    DeviceBuffer memory_;
    Tensor statistics_;  // f32 [kStatistics]
    Tensor square_sum_;  // f32 [1]
};

}  // namespace duologue
