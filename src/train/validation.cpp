// Losses of this rank's micro-batches, summed over the ranks.
#include "duologue/train/validation.h"

#include <array>
#include <cmath>
#include <unordered_map>

#include "duologue/core/error.h"

namespace duologue {

double unigram_loss(const std::vector<Batch>& batches) {
    std::unordered_map<std::int32_t, double> counts;
    double total = 0.0;
    for (const Batch& batch : batches) {
        for (const std::int32_t label : batch.labels) {
            if (label < 0) continue;
            counts[label] += 1.0;
            total += 1.0;
        }
    }
    double loss = 0.0;
    for (const auto& [label, count] : counts) loss -= count / total * std::log(count / total);
    return loss;
}

double validation_loss(const ValidationWork& work, const std::vector<Batch>& batches) {
    const Tensor loss_sum = work.statistics.column_range(0, 1);
    const MicroBatchWork micro{.model = work.model, .weights = work.weights, .gradients = {}, .loss_sum = loss_sum};
    const auto ranks = static_cast<std::size_t>(work.communicator.size());
    const auto rank = static_cast<std::size_t>(work.communicator.rank());
    const auto mine = static_cast<std::int64_t>((batches.size() + ranks - 1 - rank) / ranks);
    std::int64_t done = 0;
    double sum = 0.0;
    double labels = 0.0;
    for (std::size_t i = rank; i < batches.size(); i += ranks) {
        const Arena::Scope scope(work.arena);
        const DeviceBatch batch = upload_batch(work.backend, work.arena, batches[i], work.capacity);
        work.backend.zero(loss_sum);
        run_micro_batch(work.backend, work.arena, batch, micro, {});
        float loss = 0.0F;
        work.backend.download(&loss, loss_sum);
        sum += loss;
        labels += static_cast<double>(batches[i].label_count);
        if (work.on_batch) work.on_batch(++done, mine);
    }
    std::array<float, 2> totals{static_cast<float>(sum), static_cast<float>(labels)};
    work.backend.upload(work.statistics, totals.data());
    work.communicator.all_reduce_sum(work.statistics, "the sum of validation losses");
    work.communicator.join();
    work.backend.download(totals.data(), work.statistics);
    work.communicator.confirm();
    require(totals[1] > 0.0F, ErrorCode::kInternal, "validation without labels");
    return static_cast<double>(totals[0]) / static_cast<double>(totals[1]);
}

HeldOutLoss held_out_loss(Backend& backend, const Transformer& model, const Tensor& weights,
                          const BatchCapacity& capacity, const std::vector<Batch>& batches,
                          const BatchesDone& on_batch) {
    const std::int64_t bytes = plan_evaluation_arena(backend, model, capacity);
    const DeviceBuffer scratch = backend.allocate(bytes);
    const DeviceBuffer statistics = backend.allocate(2 * size_of(DataType::kF32));
    Arena arena(scratch.data(), bytes);
    const std::unique_ptr<Communicator> alone = make_single_communicator();
    const double loss = validation_loss({.backend = backend,
                                         .arena = arena,
                                         .communicator = *alone,
                                         .model = model,
                                         .capacity = capacity,
                                         .weights = weights,
                                         .statistics = make_vector(statistics.data(), DataType::kF32, 2),
                                         .on_batch = on_batch},
                                        batches);
    HeldOutLoss result{.loss = loss, .unigram_loss = unigram_loss(batches)};
    for (const Batch& batch : batches) result.labels += batch.label_count;
    return result;
}

}  // namespace duologue
