// Uploading and running one micro-batch; counting what that takes by running it on a planning back end.
#include "duologue/train/micro_batch.h"

#include <algorithm>

#include "duologue/core/error.h"

namespace duologue {

void run_micro_batch(Backend& backend, Arena& arena, const DeviceBatch& batch, const MicroBatchWork& work,
                     const GradientsFinished& on_finished) {
    const Arena::Scope scope(arena);
    const Tensor losses = arena.allocate_vector(DataType::kF32, batch.labels.columns);
    if (work.gradients.empty()) {
        work.model.evaluate(backend, arena, batch, work.weights, losses, work.smoothing);
    } else {
        work.model.train_step(backend, arena, batch, work.weights, work.gradients, losses, work.smoothing, on_finished);
    }
    backend.sum(work.loss_sum, losses, Write::kAccumulate);
}

namespace {

// Everything that a planned micro-batch needs, in memory that nobody reads.
struct PlannedWork {
    PlannedWork(Backend& backend, const Transformer& model)
        : memory(backend.allocate(size_of(DataType::kF32))),
          training{.model = model,
                   .weights = make_vector(memory.data(), model.activation_type(), model.parameters().elements()),
                   .gradients = make_vector(memory.data(), DataType::kF32, model.parameters().elements()),
                   .loss_sum = make_vector(memory.data(), DataType::kF32, 1)},
          validation(training) {
        validation.gradients = {};
    }
    DeviceBuffer memory;
    MicroBatchWork training;
    MicroBatchWork validation;
};

/// Matmul FLOPs of a forward and backward pass, and the device rows that they are of; what it takes.
struct PlannedPass {
    double flops = 0.0;
    double source_rows = 0.0;
    double target_rows = 0.0;
    std::int64_t batch_bytes = 0;
    std::int64_t arena_bytes = 0;
};

PlannedPass plan_pass(PlanningBackend& backend, const BatchCapacity& capacity, const MicroBatchWork& work) {
    Arena tokens;
    Arena arena;
    backend.reset_counts();
    const DeviceBatch batch = allocate_batch(tokens, capacity, backend.packing());
    run_micro_batch(backend, arena, batch, work, [](std::int64_t, std::int64_t) {});
    return {.flops = backend.counts().matmul_flops,
            .source_rows = static_cast<double>(batch.source.tokens.columns),
            .target_rows = static_cast<double>(batch.labels.columns),
            .batch_bytes = tokens.peak_bytes(),
            .arena_bytes = arena.peak_bytes()};
}

// Matmul FLOPs grow with source rows and with target rows and with nothing else: two plans give both rates.
void plan_rates(PlanningBackend& backend, const BatchCapacity& capacity, const MicroBatchWork& work,
                TrainingPlan& plan) {
    const PlannedPass whole = plan_pass(backend, capacity, work);
    plan.batch_bytes = whole.batch_bytes;
    plan.arena_bytes = whole.arena_bytes;
    BatchCapacity longer = capacity;
    longer.target_rows = 2 * capacity.target_rows;
    const PlannedPass more = plan_pass(backend, longer, work);
    plan.flops_per_target_row = (more.flops - whole.flops) / (more.target_rows - whole.target_rows);
    if (capacity.source_rows > 0) {
        plan.flops_per_source_row = (whole.flops - plan.flops_per_target_row * whole.target_rows) / whole.source_rows;
    }
}

std::int64_t evaluation_arena(PlanningBackend& backend, const BatchCapacity& capacity, const PlannedWork& work) {
    const PlannedPass pass = plan_pass(backend, capacity, work.validation);
    return pass.batch_bytes + pass.arena_bytes;
}

}  // namespace

TrainingPlan plan_training(const Backend& device_like, const PlanSettings& settings) {
    const auto backend = make_planning_backend(device_like);
    const BatchCapacity& capacity = settings.capacity;
    Transformer model(settings.model, settings.vocabulary_size, settings.precision, capacity.max_source_length,
                      capacity.max_target_length);
    model.prepare(*backend);
    TrainingPlan plan;
    plan.constant_bytes = backend->counts().allocated_bytes;
    const PlannedWork work(*backend, model);
    plan_rates(*backend, capacity, work.training, plan);
    plan.arena_bytes = std::max(plan.arena_bytes, evaluation_arena(*backend, capacity, work));

    const DataType type = model.activation_type();
    plan.parameters = model.parameters().parameters();
    plan.elements = model.parameters().elements();
    plan.weight_bytes = type == DataType::kF32 ? 0 : plan.elements * size_of(type);
    // Two products of C columns forward and four backward.
    plan.attention_flops_per_pair = 12.0 * static_cast<double>(settings.model.width);
    plan.encoder_layers = settings.model.kind == ModelKind::kEncoderDecoder ? settings.model.encoder_layers : 0;
    plan.decoder_layers = settings.model.decoder_layers;
    return plan;
}

std::int64_t plan_evaluation_arena(const Backend& device_like, const Transformer& model,
                                   const BatchCapacity& capacity) {
    const auto backend = make_planning_backend(device_like);
    return evaluation_arena(*backend, capacity, PlannedWork(*backend, model));
}

double TrainingPlan::matmul_flops(const Batch& batch) const {
    return flops_per_source_row * static_cast<double>(batch.source.rows()) +
           flops_per_target_row * static_cast<double>(batch.target.rows());
}

double TrainingPlan::attention_flops(const Batch& batch) const {
    double pairs = 0.0;
    for (std::size_t i = 1; i < batch.target.offsets.size(); ++i) {
        const double target = batch.target.offsets[i] - batch.target.offsets[i - 1];
        pairs += static_cast<double>(decoder_layers) * 0.5 * target * target;
        if (encoder_layers == 0) continue;
        const double source = batch.source.offsets[i] - batch.source.offsets[i - 1];
        pairs += static_cast<double>(encoder_layers) * source * source;
        pairs += static_cast<double>(decoder_layers) * target * source;
    }
    return attention_flops_per_pair * pairs;
}

}  // namespace duologue
