// Optimizer: learning-rate schedules as pure functions of the step.
#pragma once

#include <cstdint>

#include "duologue/config/config.h"

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

}  // namespace duologue
