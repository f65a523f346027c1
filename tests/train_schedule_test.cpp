// Learning rates by their formulas, and gradient buckets at fixed places.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "duologue/core/error.h"
#include "duologue/train/gradient_sync.h"
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

/// Remembers which parts of `base` were to be summed.
class RecordingCommunicator final : public Communicator {
   public:
    explicit RecordingCommunicator(const float* base) : base_(base) {}
    [[nodiscard]] int rank() const override { return 0; }
    [[nodiscard]] int size() const override { return 1; }
    void all_reduce_sum(const Tensor& x, const char* /*what*/) override {
        sums.emplace_back(x.as<float>() - base_, x.elements());
    }
    void reduce_scatter_sum(const Tensor& /*piece*/, const Tensor& /*x*/, const char* /*what*/) override {}
    void all_gather(const Tensor& /*x*/, const Tensor& /*piece*/, const char* /*what*/) override {}
    void broadcast(const Tensor& /*x*/, int /*root*/, const char* /*what*/) override {}
    void barrier() override {}
    void join() override { joined = true; }

    std::vector<std::pair<std::int64_t, std::int64_t>> sums;  // begin, length
    bool joined = false;

   private:
    const float* base_;
};

class GradientSyncTest : public testing::Test {
   protected:
    static constexpr std::int64_t kGradients = 1000;
    std::vector<float> memory = std::vector<float>(kGradients + 8);
    Tensor gradients = make_vector(memory.data(), DataType::kF32, kGradients);
    Tensor statistics = make_vector(memory.data() + kGradients, DataType::kF32, 8);
    std::vector<std::pair<std::int64_t, std::int64_t>> expected{
        {0, 300}, {300, 300}, {600, 300}, {900, 100}, {kGradients, 8}};
};

TEST_F(GradientSyncTest, QueuesABucketAsSoonAsItIsFinished) {
    RecordingCommunicator communicator(memory.data());
    GradientSync sync(communicator, gradients, 1200);
    sync.begin();
    sync.finished(0, 299);
    EXPECT_TRUE(communicator.sums.empty());
    sync.finished(299, 650);
    EXPECT_EQ(communicator.sums.size(), 2U);
    sync.finished(650, kGradients);
    EXPECT_EQ(communicator.sums.size(), 4U);
    sync.join(statistics);
    EXPECT_EQ(communicator.sums, expected);
    EXPECT_TRUE(communicator.joined);
}

TEST_F(GradientSyncTest, ARankWithoutWorkQueuesTheSameSums) {
    RecordingCommunicator communicator(memory.data());
    GradientSync sync(communicator, gradients, 1200);
    for (int step = 0; step < 2; ++step) {
        communicator.sums.clear();
        sync.begin();
        sync.join(statistics);
        EXPECT_EQ(communicator.sums, expected);
    }
}

TEST_F(GradientSyncTest, RefusesGaps) {
    RecordingCommunicator communicator(memory.data());
    GradientSync sync(communicator, gradients, 1200);
    sync.finished(0, 10);
    EXPECT_THROW(sync.finished(11, 20), Error);
    EXPECT_THROW(sync.finished(10, kGradients + 1), Error);
}

TEST(ClockText, CountsHours) {
    EXPECT_EQ(clock_text(3723.9), "1:02:03");
    EXPECT_EQ(clock_text(-1.0), "0:00:00");
}

}  // namespace
}  // namespace duologue
