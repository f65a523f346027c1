// Adding up what a rank holds; counting what a step computes.
#include "duologue/train/cost.h"

#include <algorithm>
#include <functional>

#include "data/examples.h"
#include "duologue/core/error.h"
#include "duologue/core/rounding.h"
#include "duologue/train/checkpoint.h"
#include "train/step_loader.h"

namespace duologue {

namespace {

/// Tokens, offsets and speakers of one shard in memory, and the examples that it is cut into.
std::int64_t shard_bytes(const DataCounts& counts) {
    return counts.tokens * 4 + counts.turns * (8 + 1) + counts.conversations * 8 +
           counts.turns * static_cast<std::int64_t>(sizeof(Example));
}

/// The largest shards that a window can hold together.
std::int64_t window_bytes(const Manifest& manifest, std::int64_t window_shards) {
    std::vector<std::int64_t> sizes;
    for (const ShardEntry& entry : manifest.shards_of(Split::kTrain)) sizes.push_back(shard_bytes(entry.counts));
    std::sort(sizes.begin(), sizes.end(), std::greater<>());
    std::int64_t bytes = 0;
    for (std::int64_t i = 0; i < std::min<std::int64_t>(window_shards, std::ssize(sizes)); ++i) {
        bytes += sizes[static_cast<std::size_t>(i)];
    }
    return bytes;
}

constexpr std::int64_t kSourceRowBytes = 8;   // token and position
constexpr std::int64_t kTargetRowBytes = 12;  // and label

/// This rank's micro-batches of the step that runs and of the one that is being made.
std::int64_t batches_bytes(const MemorySettings& settings) {
    const std::int64_t rows_bytes =
        settings.capacity.source_rows * kSourceRowBytes + settings.capacity.target_rows * kTargetRowBytes;
    return 2 * (settings.config.train.micro_batches_per_step / settings.ranks) * rows_bytes;
}

/// Every turn comes once as a target and, with those after it, as source up to the context's length.
std::int64_t validation_bytes(const MemorySettings& settings) {
    const DataCounts counts = settings.manifest->counts(Split::kValidation);
    if (counts.turns == 0) return 0;
    const std::int64_t turn_rows = (counts.tokens + counts.turns) / counts.turns;
    const std::int64_t turns_before = counts.turns / std::max<std::int64_t>(counts.conversations, 1) / 2 + 1;
    const std::int64_t source_rows = std::min(settings.config.data.max_context_tokens, turns_before * turn_rows);
    return counts.turns * (source_rows * kSourceRowBytes + turn_rows * kTargetRowBytes);
}

std::int64_t data_bytes(const MemorySettings& settings) {
    if (settings.manifest == nullptr) return batches_bytes(settings);
    return batches_bytes(settings) + validation_bytes(settings) +
           window_bytes(*settings.manifest, settings.config.data.window_shards);
}

void add_pairs(PackedTokens& packed, std::int64_t rows, std::int64_t sequences, std::int64_t longest) {
    packed.tokens.resize(static_cast<std::size_t>(rows));
    std::int64_t end = 0;
    for (std::int64_t i = 0; i < sequences; ++i) {
        end = std::min(end + longest, rows);
        packed.offsets.push_back(static_cast<std::int32_t>(end));
    }
}

Batch full_batch(const BatchCapacity& capacity) {
    const auto pieces = [](std::int64_t rows, std::int64_t longest) {
        return longest == 0 ? 0 : divided_up(rows, longest);
    };
    const std::int64_t sequences = std::max(pieces(capacity.source_rows, capacity.max_source_length),
                                            pieces(capacity.target_rows, capacity.max_target_length));
    Batch batch;
    if (capacity.source_rows > 0) {
        add_pairs(batch.source, capacity.source_rows, sequences, capacity.max_source_length);
    }
    add_pairs(batch.target, capacity.target_rows, sequences, capacity.max_target_length);
    return batch;
}

void add_cost(StepCost& cost, const TrainingPlan& plan, const Batch& batch, double times) {
    cost.source_tokens += times * static_cast<double>(batch.source.rows());
    cost.target_tokens += times * static_cast<double>(batch.target.rows());
    cost.matmul_flops += times * plan.matmul_flops(batch);
    cost.attention_flops += times * plan.attention_flops(batch);
}

}  // namespace

std::vector<MemoryKind> plan_memory(const TrainingPlan& plan, const MemorySettings& settings) {
    constexpr MemoryPlace kDevice = MemoryPlace::kDevice;
    const std::int64_t f32_bytes = plan.elements * size_of(DataType::kF32);
    const std::int64_t owners = settings.config.distributed.shard_optimizer ? settings.ranks : 1;
    const std::int64_t master_bytes = plan.weight_bytes == 0 ? f32_bytes : f32_bytes / owners;
    return {
        {.name = "weights in activation type", .place = kDevice, .bytes = plan.weight_bytes},
        {.name = "f32 master values", .place = kDevice, .bytes = master_bytes},
        {.name = "gradients", .place = kDevice, .bytes = f32_bytes},
        {.name = "Adam's moments", .place = kDevice, .bytes = 2 * f32_bytes / owners},
        {.name = "activations and scratch", .place = kDevice, .bytes = plan.arena_bytes + plan.batch_bytes},
        {.name = "constant tables", .place = kDevice, .bytes = plan.constant_bytes},
        {.name = "shards and batches", .bytes = data_bytes(settings)},
        {.name = "checkpoint being written",
         .holders = MemoryHolders::kRankZero,
         .bytes = bytes_of_writing_checkpoint(plan.elements)},
    };
}

void require_shared_evenly(std::int64_t micro_batches, int ranks) {
    const std::int64_t next = rounded_up(micro_batches, ranks);
    require(micro_batches % ranks == 0, ErrorCode::kConfiguration,
            "train.micro_batches_per_step is {}, which {} ranks cannot share evenly; set a multiple of {}, for "
            "example {}",
            micro_batches, ranks, ranks, next);
}

StepCost full_step_cost(const TrainingPlan& plan, const BatchCapacity& capacity, std::int64_t micro_batches) {
    StepCost cost;
    add_cost(cost, plan, full_batch(capacity), static_cast<double>(micro_batches));
    return cost;
}

StepCost typical_step_cost(const TrainingPlan& plan, TrainingData& data, std::int64_t micro_batches) {
    constexpr std::int64_t kMostSteps = 16;
    StepCost cost{.steps_per_epoch = estimate_steps_per_epoch(data, micro_batches)};
    cost.steps_counted = std::min(cost.steps_per_epoch, kMostSteps);
    DataPosition position;
    for (std::int64_t step = 0; step < cost.steps_counted; ++step) {
        const GlobalStep batches = data.step(position, micro_batches, 0, 1);
        for (const Batch& batch : batches.micro_batches) {
            add_cost(cost, plan, batch, 1.0 / static_cast<double>(cost.steps_counted));
        }
        position = batches.next;
    }
    return cost;
}

}  // namespace duologue
