// Zero, accumulate, sum over the ranks while the last backward pass runs, update.
#include "train/training_step.h"

#include <cmath>

#include "duologue/core/random.h"

namespace duologue {

bool StepSums::finite() const { return std::isfinite(loss) && std::isfinite(squared_gradients) && labels > 0.0; }

double StepSums::gradient_norm() const { return std::sqrt(squared_gradients) / labels; }

TrainingStep::TrainingStep(const StepParts& parts)
    : parts_(parts),
      repeater_(parts.backend.make_repeater()),
      sync_(parts.communicator, parts.state, *repeater_),
      memory_(parts.backend.allocate((kStatistics + 1) * size_of(DataType::kF32))),
      batch_memory_(parts.backend.allocate(parts.plan.batch_bytes)) {
    const Tensor all = make_vector(memory_.data(), DataType::kF32, kStatistics + 1);
    statistics_ = all.column_range(0, kStatistics);
    square_sum_ = all.column_range(kStatistics, 1);
}

void TrainingStep::queue(const GlobalStep& batches, const StepNumbers& numbers, StopVote vote) {
    parts_.backend.zero(parts_.state.gradients());
    const Statistics local = local_statistics(batches, vote);
    parts_.backend.upload(statistics_, local.data());
    sync_.begin();
    run_micro_batches(batches, numbers.step);
    sync_.join(statistics_);
    sum_squares();
    update(numbers);
}

void TrainingStep::prefetch(const GlobalStep& batches, std::int64_t step) {
    const auto first = static_cast<std::size_t>(parts_.communicator.rank());
    if (first >= batches.micro_batches.size() || batches.micro_batches[first].target.rows() == 0) return;
    upload(batches.micro_batches[first], {.step = step, .micro_batch = first});
}

StepSums TrainingStep::wait() {
    std::array<float, kStatistics + 1> sums{};
    parts_.backend.download(sums.data(), make_vector(memory_.data(), DataType::kF32, kStatistics + 1));
    parts_.communicator.confirm();
    return {.loss = sums[kLoss],
            .labels = sums[kLabels],
            .stop_votes = sums[kStopVotes],
            .source_tokens = sums[kSourceTokens],
            .target_tokens = sums[kTargetTokens],
            .giga_flops = sums[kGigaFlops],
            .peak_giga_flops_per_second = sums[kPeak],
            .squared_gradients = sums[kStatistics]};
}

void TrainingStep::run_micro_batches(const GlobalStep& batches, std::int64_t step) {
    const auto rank = static_cast<std::size_t>(parts_.communicator.rank());
    const auto ranks = static_cast<std::size_t>(parts_.communicator.size());
    const std::uint64_t key = mix_key(parts_.config.seed, static_cast<std::uint64_t>(step));
    for (std::size_t j = rank; j < batches.micro_batches.size(); j += ranks) {
        if (batches.micro_batches[j].target.rows() == 0) continue;
        const bool last = j + ranks >= batches.micro_batches.size();
        upload(batches.micro_batches[j], {.step = step, .micro_batch = j});
        parts_.backend.set_random_key(mix_key(key, j));
        run_uploaded(last && ranks > 1 ? Summing::kDuringBackward : Summing::kLater);
    }
}

// All that is queued depends on the sizes of the micro-batch alone, and lies where it did for the last one of them.
void TrainingStep::run_uploaded(Summing summing) {
    const MicroBatchWork work{.model = parts_.model,
                              .weights = parts_.state.weights(),
                              .gradients = parts_.state.gradients(),
                              .loss_sum = statistics_.column_range(kLoss, 1),
                              .smoothing = static_cast<float>(parts_.config.label_smoothing)};
    const Repeater::Key key{batch_.source.tokens.columns, batch_.target.tokens.columns, batch_.target.offsets.sequences,
                            static_cast<std::int64_t>(summing)};
    repeater_->run(key, [&] {
        run_micro_batch(parts_.backend, parts_.arena, batch_, work, [&](std::int64_t begin, std::int64_t end) {
            if (summing == Summing::kDuringBackward) sync_.finished(begin, end);
        });
    });
}

void TrainingStep::upload(const Batch& batch, const Turn& turn) {
    if (uploaded_ == turn) return;  // was prefetched
    Arena memory(batch_memory_.data(), batch_memory_.bytes());
    batch_ = upload_batch(parts_.backend, memory, batch, parts_.capacity);
    uploaded_ = turn;
}

void TrainingStep::sum_squares() {
    const TrainingState& state = parts_.state;
    parts_.backend.zero(square_sum_);
    for (const Piece& piece : state.layout().pieces()) {
        parts_.backend.sum_squares(square_sum_, state.gradients(piece.range), Write::kAccumulate);
    }
    if (!state.layout().sharded()) return;
    parts_.communicator.all_reduce_sum(square_sum_, "the sum of squared gradients");
    parts_.communicator.join();
}

TrainingStep::Statistics TrainingStep::local_statistics(const GlobalStep& batches, StopVote vote) const {
    double labels = 0.0;
    double sources = 0.0;
    double targets = 0.0;
    double flops = 0.0;
    const auto rank = static_cast<std::size_t>(parts_.communicator.rank());
    const auto ranks = static_cast<std::size_t>(parts_.communicator.size());
    for (std::size_t j = rank; j < batches.micro_batches.size(); j += ranks) {
        const Batch& batch = batches.micro_batches[j];
        labels += static_cast<double>(batch.label_count);
        sources += static_cast<double>(batch.source.rows());
        targets += static_cast<double>(batch.target.rows());
        flops += parts_.plan.flops(batch);
    }
    return {0.0F,
            static_cast<float>(labels),
            vote == StopVote::kStop ? 1.0F : 0.0F,
            static_cast<float>(sources),
            static_cast<float>(targets),
            static_cast<float>(flops * 1e-9),
            static_cast<float>(parts_.matmul_flops_per_second * 1e-9)};
}

void TrainingStep::update(const StepNumbers& numbers) {
    const TrainingState& state = parts_.state;
    const TrainConfig& config = parts_.config;
    for (const Piece& piece : state.layout().pieces()) {
        parts_.backend.adamw({.values = state.part(StatePart::kValues, piece),
                              .weights = state.weights_are_values() ? Tensor{} : state.weights(piece.range),
                              .first = state.part(StatePart::kFirst, piece),
                              .second = state.part(StatePart::kSecond, piece),
                              .gradients = state.gradients(piece.range),
                              .divisor = statistics_.column_range(kLabels, 1),
                              .square_sum = square_sum_,
                              .loss = statistics_.column_range(kLoss, 1),
                              .learning_rate = static_cast<float>(numbers.learning_rate),
                              .beta1 = static_cast<float>(config.beta1),
                              .beta2 = static_cast<float>(config.beta2),
                              .epsilon = static_cast<float>(config.epsilon),
                              .weight_decay = static_cast<float>(config.weight_decay),
                              .max_norm = static_cast<float>(config.clip_norm),
                              .step = numbers.update});
    }
    if (state.layout().sharded()) gather_weights();
}

void TrainingStep::gather_weights() {
    const TrainingState& state = parts_.state;
    const FlatLayout& layout = state.layout();
    for (std::size_t i = 0; i < layout.buckets().size(); ++i) {
        parts_.communicator.all_gather(state.weights(layout.buckets()[i]), state.weights(layout.pieces()[i].range),
                                       "the gathering of weights");
    }
    parts_.communicator.join();
}

}  // namespace duologue
