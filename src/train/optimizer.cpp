// Schedules by their formulas.
#include "duologue/train/optimizer.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "duologue/core/error.h"

namespace duologue {

ScheduleSettings schedule_settings(const TrainConfig& config, std::int64_t width, std::int64_t planned_steps) {
    const std::int64_t warmup = std::max<std::int64_t>(config.warmup_steps, 1);
    const double paper = 1.0 / std::sqrt(static_cast<double>(width) * static_cast<double>(warmup));
    return {.schedule = config.schedule,
            .peak = config.learning_rate > 0.0 ? config.learning_rate : paper,
            .warmup_steps = warmup,
            .planned_steps = planned_steps};
}

namespace {

double cosine(const ScheduleSettings& settings, std::int64_t step) {
    const auto length = static_cast<double>(std::max<std::int64_t>(settings.planned_steps - settings.warmup_steps, 1));
    const double t = std::min(static_cast<double>(step - settings.warmup_steps) / length, 1.0);
    return settings.peak * 0.5 * (1.0 + std::cos(std::numbers::pi * t));
}

}  // namespace

double learning_rate(const ScheduleSettings& settings, std::int64_t step) {
    require(step >= 1, ErrorCode::kInternal, "the learning rate of step {}; steps count from 1", step);
    const double rise = static_cast<double>(step) / static_cast<double>(settings.warmup_steps);
    if (rise <= 1.0) return settings.peak * rise;
    switch (settings.schedule) {
        case Schedule::kPaper:
            return settings.peak / std::sqrt(rise);
        case Schedule::kCosine:
            return cosine(settings, step);
        case Schedule::kConstant:
            return settings.peak;
    }
    fail(ErrorCode::kInternal, "an unknown schedule {}", static_cast<int>(settings.schedule));
}

}  // namespace duologue
