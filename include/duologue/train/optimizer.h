// Optimizer: learning-rate schedules as pure functions of the step, and the flat buffers that Adam works on.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "duologue/backend/backend.h"
#include "duologue/config/config.h"
#include "duologue/model/parameters.h"

namespace duologue {

/// What a schedule depends on besides the step.
struct ScheduleSettings {
    Schedule schedule = Schedule::kPaper;
    double peak = 0.0;               ///< reached at the end of the warm-up
    std::int64_t warmup_steps = 1;   ///< at least 1
    std::int64_t planned_steps = 0;  ///< kCosine reaches 0 there
};

/// `width` is the model's C: without train.learning_rate the peak is the paper's, (C * warmup)^-0.5.
[[nodiscard]] ScheduleSettings schedule_settings(const TrainConfig& config, std::int64_t width,
                                                 std::int64_t planned_steps);

/// The learning rate of `step` (1-based). All rise linearly to the peak; then
/// kPaper: peak * (warmup / step)^0.5 (Vaswani et al. 2017, eq. 3);
/// kCosine: peak * (1 + cos(pi * t)) / 2, t from 0 after the warm-up to 1 at planned_steps (Loshchilov and Hutter
/// 2017); kConstant: peak.
[[nodiscard]] double learning_rate(const ScheduleSettings& settings, std::int64_t step);

/// The flat buffers of a training run, one allocation each, sharing the offsets of the parameter table.
class TrainingState {
   public:
    /// Everything zero. `activation` is the type of weights().
    TrainingState(Backend& backend, const ParameterTable& table, DataType activation);

    [[nodiscard]] const Tensor& values() const { return values_; }        ///< f32: the master parameters
    [[nodiscard]] const Tensor& weights() const { return weights_; }      ///< act; values() itself where act is f32
    [[nodiscard]] const Tensor& gradients() const { return gradients_; }  ///< f32
    [[nodiscard]] const Tensor& first() const { return first_; }          ///< f32, Adam's first moment
    [[nodiscard]] const Tensor& second() const { return second_; }        ///< f32, Adam's second moment

    /// weights() = values() rounded.
    void refresh_weights(Backend& backend) const;

   private:
    [[nodiscard]] Tensor allocate(Backend& backend, DataType type, std::int64_t elements);

    std::vector<DeviceBuffer> buffers_;
    Tensor values_;
    Tensor weights_;
    Tensor gradients_;
    Tensor first_;
    Tensor second_;
};

/// The host's copy of a contiguous f32 tensor.
[[nodiscard]] std::vector<float> download_values(Backend& backend, const Tensor& x);

}  // namespace duologue
