// Cost: what a training run will take, found before it starts: memory by kind, and floating-point operations a step.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "duologue/config/config.h"
#include "duologue/data/batches.h"
#include "duologue/data/shards.h"
#include "duologue/train/micro_batch.h"

namespace duologue {

enum class MemoryPlace : std::uint8_t { kDevice, kHost };  ///< the same memory where the device is the CPU

enum class MemoryHolders : std::uint8_t { kEveryRank, kRankZero };

struct MemoryKind {
    std::string name;
    MemoryPlace place = MemoryPlace::kHost;
    MemoryHolders holders = MemoryHolders::kEveryRank;
    std::int64_t bytes = 0;
};

/// What memory depends on besides the plan of a micro-batch.
struct MemorySettings {
    const Config& config;
    BatchCapacity capacity;
    int ranks = 1;
    const Manifest* manifest = nullptr;  ///< of data.path; null: without data
};

/// What a rank allocates itself and holds at its peak, by kind.
[[nodiscard]] std::vector<MemoryKind> plan_memory(const TrainingPlan& plan, const MemorySettings& settings);

/// kConfiguration unless every rank gets as many micro-batches of a step.
void require_shared_evenly(std::int64_t micro_batches, int ranks);

/// What a global step works on and costs, over all ranks.
struct StepCost {
    double source_tokens = 0.0;
    double target_tokens = 0.0;
    double matmul_flops = 0.0;  ///< forward and backward, 2 per multiply-add
    double attention_flops = 0.0;
    std::int64_t steps_counted = 0;    ///< what the rest is the mean of; 0: a step at capacity
    std::int64_t steps_per_epoch = 0;  ///< 0: not known
};

/// Every micro-batch full, of sequences of the greatest length: no step costs more.
[[nodiscard]] StepCost full_step_cost(const TrainingPlan& plan, const BatchCapacity& capacity,
                                      std::int64_t micro_batches);
/// The mean of the first steps of the data.
[[nodiscard]] StepCost typical_step_cost(const TrainingPlan& plan, TrainingData& data, std::int64_t micro_batches);

}  // namespace duologue
