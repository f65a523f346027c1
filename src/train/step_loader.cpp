// One step ahead on a thread; the extrapolation of an epoch's length.
#include "train/step_loader.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

namespace duologue {

GlobalStep StepLoader::take(const DataPosition& position) {
    if (!has_begun(position)) begin(position);
    if (finish().error) std::rethrow_exception(made_->error);
    GlobalStep step = std::move(made_->step);
    begin(step.next);
    return step;
}

const GlobalStep* StepLoader::made(const DataPosition& position) {
    if (!has_begun(position)) return nullptr;
    const bool waits = !made_ && next_.wait_for(std::chrono::seconds(0)) != std::future_status::ready;
    if (waits || finish().error) return nullptr;
    return &made_->step;
}

bool StepLoader::has_begun(const DataPosition& position) const {
    return (made_ || next_.valid()) && begun_ == position;
}

const StepLoader::Made& StepLoader::finish() {
    if (!made_) made_ = next_.get();
    return *made_;
}

void StepLoader::begin(const DataPosition& position) {
    if (next_.valid()) next_.wait();  // nobody else uses the data meanwhile
    begun_ = position;
    made_.reset();
    next_ = std::async(std::launch::async, [this, position] {
        try {
            return Made{.step = data_.step(position, share_.micro_batches, share_.rank, share_.ranks), .error = {}};
        } catch (...) {
            return Made{.step = {}, .error = std::current_exception()};  // take() throws it
        }
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
