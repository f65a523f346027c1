// The loop: steps, validations, checkpoints, the agreement to stop.
#include "duologue/train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <utility>

#include "duologue/core/error.h"
#include "duologue/core/report.h"
#include "duologue/train/checkpoint.h"
#include "duologue/train/cost.h"
#include "duologue/train/optimizer.h"
#include "duologue/train/preflight.h"
#include "duologue/train/validation.h"
#include "train/resume.h"
#include "train/step_loader.h"
#include "train/stop_file.h"
#include "train/training_step.h"

namespace duologue {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

bool is_due(std::int64_t step, std::int64_t interval) { return interval > 0 && step % interval == 0; }

std::vector<Fact> facts_of(const TrainerSettings& settings, const Vocabulary& vocabulary) {
    return {{.name = "the program", .value = settings.program_version},
            {.name = "the configuration", .value = hash_of_options(settings.config_json)},
            {.name = "the vocabulary's hash", .value = vocabulary.hash(), .code = ErrorCode::kData},
            {.name = "the data's checksum", .value = settings.data_checksum, .code = ErrorCode::kData}};
}

}  // namespace

class Trainer::Run {
   public:
    Run(TrainerSettings settings, const TrainerParts& parts);
    TrainingResult run();
    [[nodiscard]] std::vector<float> parameters() const {
        return download_values(parts_.backend, whole(StatePart::kValues));
    }

   private:
    [[nodiscard]] bool leads() const { return parts_.communicator.rank() == 0; }
    [[nodiscard]] bool finished() const;
    [[nodiscard]] Tensor whole(StatePart part) const;
    [[nodiscard]] std::vector<float> to_write(StatePart part) const;
    [[nodiscard]] std::string output(const char* name) const;
    [[nodiscard]] StopVote vote();
    void train_one_step();
    void count_skip(const StepMetrics& metrics);
    void report(const StepMetrics& metrics);
    void validate();
    void save();
    void write(const Checkpoint& checkpoint);

    TrainerSettings settings_;
    TrainerParts parts_;
    TrainingPlan plan_;
    TrainingState state_;
    DeviceBuffer arena_memory_;
    Arena arena_;
    CheckpointFolder folder_;
    ResumePoint point_;
    std::int64_t planned_steps_;
    ScheduleSettings schedule_;
    TrainingStep step_;
    StepLoader loader_;
    StopFile stop_file_;
    double unigram_loss_;
    Progress progress_;
    std::optional<MetricsFile> metrics_;  // of rank 0
    TrainingResult result_;
    double peak_ = 0.0;  // GFLOP/s of all ranks, the best that was seen; 0: not measured
    std::int64_t consecutive_skips_ = 0;
    std::int64_t validated_step_ = -1;
    std::int64_t saved_step_;
};

namespace {

Owner owner_of(const TrainerSettings& settings, const Communicator& communicator) {
    if (!settings.shard_optimizer) return {};
    return {.index = communicator.rank(), .count = communicator.size()};
}

// In the order of construction: first all that can be refused without a byte allocated.
TrainingPlan checked_plan(const TrainerSettings& settings, const TrainerParts& parts) {
    require_shared_evenly(settings.train.micro_batches_per_step, parts.communicator.size());
    require_same_everywhere(parts.world, facts_of(settings, parts.vocabulary));
    return plan_training(parts.backend, {.model = parts.model.config(),
                                         .vocabulary_size = parts.model.vocabulary_size(),
                                         .precision = settings.train.precision,
                                         .capacity = settings.capacity});
}

std::int64_t plan_steps(const TrainConfig& config, TrainingData& data, World& world) {
    if (config.steps > 0) return config.steps;
    const auto token = world.busy("counting the steps of an epoch");
    return config.epochs * estimate_steps_per_epoch(data, config.micro_batches_per_step);
}

ProgressSettings progress_settings(const TrainerSettings& settings, std::int64_t planned_steps, int rank) {
    return {.style = rank == 0 ? settings.progress : ProgressStyle::kNone,
            .planned_steps = planned_steps,
            .planned_epochs = settings.train.steps > 0 ? 0 : settings.train.epochs,
            .interval_steps = settings.train.log_interval_steps};
}

}  // namespace

Trainer::Run::Run(TrainerSettings settings, const TrainerParts& parts)
    : settings_(std::move(settings)),
      parts_(parts),
      plan_(checked_plan(settings_, parts_)),
      state_(parts_.backend, parts_.model.parameters(), parts_.model.activation_type(),
             FlatLayout(parts_.model.parameters().elements(), settings_.bucket_bytes,
                        owner_of(settings_, parts_.communicator))),
      arena_memory_(parts_.backend.allocate(plan_.arena_bytes)),
      arena_(arena_memory_.data(), plan_.arena_bytes),
      folder_(output("checkpoints")),
      point_(resume_or_begin({.backend = parts_.backend,
                              .communicator = parts_.communicator,
                              .world = parts_.world,
                              .log = parts_.log,
                              .folder = folder_,
                              .table = parts_.model.parameters(),
                              .state = state_},
                             {.resume = settings_.checkpoint.resume,
                              .seed = settings_.train.seed,
                              .config_json = settings_.config_json,
                              .demands = {.vocabulary_hash = parts_.vocabulary.hash(),
                                          .data_checksum = settings_.data_checksum,
                                          .shapes = parameter_shapes(parts_.model.parameters())}})),
      planned_steps_(plan_steps(settings_.train, parts_.data, parts_.world)),
      schedule_(schedule_settings(settings_.train, parts_.model.config().width, planned_steps_)),
      step_({.backend = parts_.backend,
             .arena = arena_,
             .communicator = parts_.communicator,
             .model = parts_.model,
             .state = state_,
             .plan = plan_,
             .capacity = settings_.capacity,
             .config = settings_.train,
             .matmul_flops_per_second = settings_.matmul_flops_per_second}),
      loader_(parts_.data, {.micro_batches = settings_.train.micro_batches_per_step,
                            .rank = parts_.communicator.rank(),
                            .ranks = parts_.communicator.size()}),
      stop_file_(settings_.train.stop_file),
      unigram_loss_(unigram_loss(parts_.validation)),
      progress_(progress_settings(settings_, planned_steps_, parts_.communicator.rank()), parts_.log),
      saved_step_(point_.step) {
    parts_.model.prepare(parts_.backend);
    if (leads()) metrics_.emplace(output("metrics.jsonl"), point_.step);
}

std::string Trainer::Run::output(const char* name) const {
    std::error_code error;
    std::filesystem::create_directories(settings_.output_path, error);
    require(!error, ErrorCode::kInputOutput, "cannot make the folder '{}': {}", settings_.output_path, error.message());
    return (std::filesystem::path(settings_.output_path) / name).string();
}

bool Trainer::Run::finished() const {
    if (settings_.train.steps > 0) return point_.step >= settings_.train.steps;
    return point_.position.epoch >= settings_.train.epochs;
}

TrainingResult Trainer::Run::run() {
    if (finished() && point_.step > 0) {
        parts_.log.info("nothing is left to train: the checkpoint has {} and {}, as many as train.{} asks for",
                        count_text(point_.step, "step"), count_text(point_.position.epoch, "whole epoch"),
                        settings_.train.steps > 0 ? "steps" : "epochs");
    }
    while (result_.reason != EndReason::kStopped && !finished()) {
        const std::int64_t epoch = point_.position.epoch;
        parts_.world.set_step(point_.step);
        train_one_step();
        const bool epoch_ended = point_.position.epoch != epoch;
        const bool last = finished();
        const bool validate_now = last || epoch_ended || is_due(point_.step, settings_.train.validation_interval_steps);
        if (validate_now && !parts_.validation.empty()) validate();
        if (last || result_.reason == EndReason::kStopped || is_due(point_.step, settings_.checkpoint.interval_steps)) {
            save();
        }
    }
    progress_.clear();
    result_.step = point_.step;
    result_.epoch = point_.position.epoch;
    result_.skipped_steps = point_.skipped_steps;
    return result_;
}

StopVote Trainer::Run::vote() { return parts_.stop.wanted || stop_file_.exists() ? StopVote::kStop : StopVote::kGoOn; }

void Trainer::Run::train_one_step() {
    const Clock::time_point begin = Clock::now();
    const GlobalStep batches = loader_.take(point_.position);
    const std::int64_t step = point_.step + 1;
    const double rate = learning_rate(schedule_, step);
    step_.queue(batches, {.step = step, .update = step - point_.skipped_steps, .learning_rate = rate}, vote());
    if (const GlobalStep* next = loader_.made(batches.next)) step_.prefetch(*next, step + 1);
    const StepSums sums = step_.wait();
    const double seconds = seconds_since(begin);
    // The machine may have been busy while the peak was measured: a step that was faster is the better measurement.
    const double rate_of_step = sums.giga_flops / seconds;
    if (sums.peak_giga_flops_per_second > 0.0) {
        peak_ = std::max({peak_, sums.peak_giga_flops_per_second, rate_of_step});
    }
    const StepMetrics metrics{.step = step,
                              .epoch = point_.position.epoch,
                              .train_loss = sums.loss / sums.labels,
                              .learning_rate = rate,
                              .gradient_norm = sums.gradient_norm(),
                              .source_tokens = sums.source_tokens,
                              .target_tokens = sums.target_tokens,
                              .seconds = seconds,
                              .matmul_share = peak_ > 0.0 ? rate_of_step / peak_ : 0.0,
                              .outcome = sums.finite() ? StepOutcome::kApplied : StepOutcome::kSkipped};
    point_.step = step;
    point_.position = batches.next;
    if (sums.stop_votes > 0.0) result_.reason = EndReason::kStopped;
    report(metrics);
    count_skip(metrics);
}

void Trainer::Run::report(const StepMetrics& metrics) {
    result_.train_loss = metrics.train_loss;
    progress_.show(metrics);
    if (metrics_) metrics_->append(metrics);
}

void Trainer::Run::count_skip(const StepMetrics& metrics) {
    if (metrics.outcome == StepOutcome::kApplied) {
        consecutive_skips_ = 0;
        return;
    }
    ++point_.skipped_steps;
    ++consecutive_skips_;
    progress_.clear();
    if (leads()) {
        parts_.log.warning("step {} is skipped: its loss is {} and its gradient norm {}", metrics.step,
                           metrics.train_loss, metrics.gradient_norm);
    }
    require(consecutive_skips_ <= settings_.train.max_skipped_steps, ErrorCode::kConfiguration,
            "{} steps in a row had a loss or gradient that is not finite, the last is step {} with loss {}, gradient "
            "norm {} and learning rate {}; lower train.learning_rate, raise train.warmup_steps, or set "
            "train.precision=f32 (train.max_skipped_steps is {})",
            consecutive_skips_, metrics.step, metrics.train_loss, metrics.gradient_norm, metrics.learning_rate,
            settings_.train.max_skipped_steps);
}

void Trainer::Run::validate() {
    const Clock::time_point begin = Clock::now();
    const auto on_batch = [&](std::int64_t done, std::int64_t all) {
        progress_.doing(fmt::format("validating {}/{}", done, all));
    };
    const double loss = validation_loss({.backend = parts_.backend,
                                         .arena = arena_,
                                         .communicator = parts_.communicator,
                                         .model = parts_.model,
                                         .capacity = settings_.capacity,
                                         .weights = state_.weights(),
                                         .statistics = step_.scratch(),
                                         .on_batch = on_batch},
                                        parts_.validation);
    const ValidationMetrics metrics{.step = point_.step,
                                    .epoch = point_.position.epoch,
                                    .loss = loss,
                                    .unigram_loss = unigram_loss_,
                                    .seconds = seconds_since(begin)};
    result_.validation_loss = loss;
    validated_step_ = point_.step;
    progress_.show(metrics);
    if (metrics_) metrics_->append(metrics);
    if (!std::isfinite(loss)) return;
    if (point_.best_validation_loss && loss >= *point_.best_validation_loss) return;
    point_.best_validation_loss = loss;
    save();
}

Tensor Trainer::Run::whole(StatePart part) const {
    const Tensor values = state_.whole(part, parts_.backend, parts_.communicator);
    parts_.backend.synchronize();
    parts_.communicator.confirm();
    return values;
}

// Every rank calls it, rank 0 gets it.
std::vector<float> Trainer::Run::to_write(StatePart part) const {
    const Tensor values = whole(part);
    return leads() ? download_values(parts_.backend, values) : std::vector<float>();
}

void Trainer::Run::save() {
    if (saved_step_ == point_.step) return;
    saved_step_ = point_.step;
    progress_.doing("saving");
    const bool validated = validated_step_ == point_.step && std::isfinite(*result_.validation_loss);
    const Checkpoint checkpoint{
        .summary = {.step = point_.step,
                    .skipped_steps = point_.skipped_steps,
                    .position = point_.position,
                    .validation_loss = validated ? result_.validation_loss : std::nullopt,
                    .vocabulary_hash = parts_.vocabulary.hash(),
                    .data_checksum = settings_.data_checksum,
                    .config = settings_.config_json,
                    .shapes = parameter_shapes(parts_.model.parameters())},
        .vocabulary = parts_.vocabulary.serialize(),
        .values = to_write(StatePart::kValues),
        .first = to_write(StatePart::kFirst),
        .second = to_write(StatePart::kSecond),
    };
    if (leads()) write(checkpoint);
}

void Trainer::Run::write(const Checkpoint& checkpoint) {
    const auto token = parts_.world.busy("writing a checkpoint");
    folder_.save(checkpoint, settings_.checkpoint.keep_last);
}

Trainer::Trainer(TrainerSettings settings, const TrainerParts& parts)
    : run_(std::make_unique<Run>(std::move(settings), parts)) {}

Trainer::~Trainer() = default;

TrainingResult Trainer::run() { return run_->run(); }

std::vector<float> Trainer::parameters() const { return run_->parameters(); }

}  // namespace duologue
