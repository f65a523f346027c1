// Learning rates by their formulas, and times as clocks show them.
#include <gtest/gtest.h>

#include <cmath>

#include "duologue/core/error.h"
#include "duologue/train/metrics.h"
#include "duologue/train/optimizer.h"

namespace duologue {
namespace {

TEST(Schedule, ThePapersIsEquationThree) {
    const TrainConfig config{.schedule = Schedule::kPaper, .warmup_steps = 4000};
    const ScheduleSettings settings = schedule_settings(config, 512, 100000);
    for (const std::int64_t step : {1, 7, 1000, 3999, 4000, 4001, 10000, 100000}) {
        const auto s = static_cast<double>(step);
        const double expected = std::pow(512.0, -0.5) * std::min(std::pow(s, -0.5), s * std::pow(4000.0, -1.5));
        EXPECT_NEAR(learning_rate(settings, step), expected, 1e-12 * expected) << "step " << step;
    }
}

TEST(Schedule, ALearningRateSetsThePeak) {
    for (const Schedule schedule : {Schedule::kPaper, Schedule::kCosine, Schedule::kConstant}) {
        const TrainConfig config{.schedule = schedule, .learning_rate = 0.01, .warmup_steps = 100};
        const ScheduleSettings settings = schedule_settings(config, 512, 1000);
        EXPECT_DOUBLE_EQ(learning_rate(settings, 100), 0.01);
        EXPECT_DOUBLE_EQ(learning_rate(settings, 50), 0.005);
        EXPECT_LE(learning_rate(settings, 500), 0.01);
    }
}

TEST(Schedule, TheCosineEndsAtZero) {
    const TrainConfig config{.schedule = Schedule::kCosine, .learning_rate = 0.01, .warmup_steps = 100};
    const ScheduleSettings settings = schedule_settings(config, 512, 1100);
    EXPECT_NEAR(learning_rate(settings, 600), 0.005, 1e-15);
    EXPECT_NEAR(learning_rate(settings, 350), 0.01 * 0.5 * (1.0 + std::sqrt(0.5)), 1e-15);
    EXPECT_NEAR(learning_rate(settings, 1100), 0.0, 1e-15);
    EXPECT_NEAR(learning_rate(settings, 5000), 0.0, 1e-15);
}

TEST(Schedule, TheConstantStays) {
    const TrainConfig config{.schedule = Schedule::kConstant, .learning_rate = 0.01, .warmup_steps = 1};
    const ScheduleSettings settings = schedule_settings(config, 512, 10);
    EXPECT_DOUBLE_EQ(learning_rate(settings, 1), 0.01);
    EXPECT_DOUBLE_EQ(learning_rate(settings, 1000), 0.01);
    EXPECT_THROW((void)learning_rate(settings, 0), Error);
}

TEST(ClockText, CountsHours) {
    EXPECT_EQ(clock_text(3723.9), "1:02:03");
    EXPECT_EQ(clock_text(-1.0), "0:00:00");
}

}  // namespace
}  // namespace duologue
