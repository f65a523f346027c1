// One step ahead on a thread; the extrapolation of an epoch's length.
#include "train/step_loader.h"

#include <algorithm>
#include <cmath>

namespace duologue {

GlobalStep StepLoader::take(const DataPosition& position) {
    if (!next_.valid() || begun_ != position) {
        if (next_.valid()) (void)next_.get();
        begin(position);
    }
    GlobalStep step = next_.get();
    begin(step.next);
    return step;
}

void StepLoader::begin(const DataPosition& position) {
    begun_ = position;
    next_ = std::async(std::launch::async, [this, position] {
        return data_.step(position, share_.micro_batches, share_.rank, share_.ranks);
    });
}

std::int64_t estimate_steps_per_epoch(TrainingData& data, std::int64_t micro_batches) {
    constexpr std::int64_t kCountedSteps = 32;
    // The last of micro_batches + 1 ranks has no micro-batch, so that steps are counted and not filled.
    const int nobody = static_cast<int>(micro_batches);
    DataPosition position;
    for (std::int64_t steps = 1;; ++steps) {
        const GlobalStep step = data.step(position, micro_batches, nobody, nobody + 1);
        if (step.ends_epoch) return steps;
        position = step.next;
        if (steps < kCountedSteps) continue;
        const double share = static_cast<double>(position.examples) / static_cast<double>(data.examples_per_epoch());
        return std::max(steps, static_cast<std::int64_t>(std::ceil(static_cast<double>(steps) / share)));
    }
}

}  // namespace duologue
