// The trainer on 1, 2 and 4 ranks: the mathematics does not depend on them; resume is bitwise; all agree.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "duologue/core/error.h"
#include "duologue/train/checkpoint.h"
#include "support/mpi_main.h"
#include "support/reference_backend.h"
#include "support/shared_folder.h"
#include "support/toy_training.h"

namespace duologue {
namespace {

using testing::HasSubstr;

constexpr std::int64_t kSteps = 12;  // of a whole toy run: two epochs of six steps

std::unique_ptr<ToyTraining> on_all_ranks(const TrainerSettings& settings) {
    return std::make_unique<ToyTraining>(make_reference_backend(), test_world(), make_mpi_communicator(test_world()),
                                         settings);
}

// The same run on every rank by itself.
std::unique_ptr<ToyTraining> on_one_rank(const TrainerSettings& settings) {
    return std::make_unique<ToyTraining>(make_reference_backend(), test_world(), make_single_communicator(), settings);
}

std::vector<nlohmann::json> events(const std::string& folder, const std::string& kind) {
    wait_for_all_ranks();  // rank 0 writes the file
    std::vector<nlohmann::json> found;
    std::ifstream file(folder + "/metrics.jsonl");
    for (std::string line; std::getline(file, line);) {
        auto event = nlohmann::json::parse(line);
        if (event["event"] == kind) found.push_back(event);
    }
    return found;
}

std::vector<double> numbers(const std::vector<nlohmann::json>& list, const char* key) {
    std::vector<double> values;
    for (const auto& event : list) values.push_back(event.at(key).get<double>());
    return values;
}

TEST(Trainer, RanksAndAccumulationGiveTheSameLosses) {
    const SharedFolder together;
    const TemporaryFolder alone;
    auto many = on_all_ranks(toy_settings(together.path()));
    auto one = on_one_rank(toy_settings(alone.path()));
    const TrainingResult result = many->trainer().run();
    const TrainingResult expected = one->trainer().run();
    EXPECT_EQ(result.reason, EndReason::kFinished);
    EXPECT_EQ(result.step, kSteps);
    EXPECT_EQ(result.epoch, 2);
    ASSERT_TRUE(result.validation_loss && expected.validation_loss);
    EXPECT_NEAR(*result.validation_loss, *expected.validation_loss, 1e-5);
    for (const char* key : {"train_loss", "gradient_norm", "learning_rate"}) {
        const auto losses = numbers(events(together.path(), "step"), key);
        const auto expected_losses = numbers(events(alone.path(), "step"), key);
        ASSERT_EQ(losses.size(), static_cast<std::size_t>(kSteps));
        ASSERT_EQ(expected_losses.size(), static_cast<std::size_t>(kSteps));
        for (std::size_t i = 0; i < losses.size(); ++i) {
            EXPECT_NEAR(losses[i], expected_losses[i], 1e-5 * (1.0 + expected_losses[i])) << key << " of " << i;
        }
    }
}

TEST(Trainer, EveryRankHoldsTheSameParameters) {
    const SharedFolder folder;
    auto training = on_all_ranks(toy_settings(folder.path()));
    (void)training->trainer().run();
    const std::vector<float> mine = training->trainer().parameters();
    const auto all = test_world().gather_all({reinterpret_cast<const char*>(mine.data()), mine.size() * sizeof(float)});
    EXPECT_EQ(std::set<std::string>(all.begin(), all.end()).size(), 1U);
}

TEST(Trainer, ItLearns) {
    const SharedFolder folder;
    TrainerSettings settings = toy_settings(folder.path());
    settings.train.epochs = 12;
    settings.train.learning_rate = 0.02;
    settings.train.label_smoothing = 0.0;
    settings.checkpoint.interval_steps = 0;
    const TrainingResult result = on_all_ranks(settings)->trainer().run();
    const auto validations = events(folder.path(), "validation");
    ASSERT_FALSE(validations.empty());
    EXPECT_LT(*result.train_loss, 0.8 * std::log(kToyVocabulary));
    EXPECT_LT(validations.back().at("perplexity").get<double>(),
              validations.back().at("unigram_perplexity").get<double>());
}

class ResumeAfter : public testing::TestWithParam<std::int64_t> {};

TEST_P(ResumeAfter, TheParametersAreThoseOfTheUninterruptedRun) {
    const SharedFolder straight;
    const SharedFolder broken;
    auto whole = on_all_ranks(toy_settings(straight.path()));
    (void)whole->trainer().run();

    TrainerSettings settings = toy_settings(broken.path());
    settings.train.steps = GetParam();
    (void)on_all_ranks(settings)->trainer().run();
    auto rest = on_all_ranks(toy_settings(broken.path()));
    testing::internal::CaptureStderr();
    const TrainingResult result = rest->trainer().run();
    (void)testing::internal::GetCapturedStderr();
    EXPECT_EQ(result.step, kSteps);
    EXPECT_EQ(rest->trainer().parameters(), whole->trainer().parameters());
    EXPECT_EQ(numbers(events(broken.path(), "step"), "train_loss"),
              numbers(events(straight.path(), "step"), "train_loss"));
}

INSTANTIATE_TEST_SUITE_P(Steps, ResumeAfter, testing::Values(1, 3, 5, 6, 7));

TEST(Trainer, NoStepTakesMoreThanAllOfAPeakThatWasMeasuredTooLow) {
    const SharedFolder folder;
    TrainerSettings settings = toy_settings(folder.path());
    settings.matmul_flops_per_second = 1.0;  // as on a machine that was busy with other things
    (void)on_all_ranks(settings)->trainer().run();
    const std::vector<double> shares = numbers(events(folder.path(), "step"), "matmul_share");
    ASSERT_FALSE(shares.empty());
    EXPECT_THAT(shares, testing::Each(testing::AllOf(testing::Gt(0.0), testing::Le(1.0))));
}

TEST(Trainer, AFinishedRunHasNothingLeftToDo) {
    const SharedFolder folder;
    (void)on_all_ranks(toy_settings(folder.path()))->trainer().run();
    testing::internal::CaptureStderr();
    const TrainingResult again = on_all_ranks(toy_settings(folder.path()))->trainer().run();
    (void)testing::internal::GetCapturedStderr();
    EXPECT_EQ(again.step, kSteps);
    EXPECT_EQ(again.reason, EndReason::kFinished);
    EXPECT_FALSE(again.train_loss);
}

TEST(Trainer, NeverResumingRefusesAFolderWithCheckpoints) {
    const TemporaryFolder folder;
    TrainerSettings settings = toy_settings(folder.path());
    settings.train.steps = 1;
    (void)on_one_rank(settings)->trainer().run();
    settings.checkpoint.resume = Resume::kNever;
    auto training = on_one_rank(settings);
    try {
        (void)training->trainer();
        ADD_FAILURE() << "no error";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kConfiguration);
        EXPECT_THAT(error.what(), HasSubstr("step-000000001.h5"));
    }
}

TEST(Trainer, AllRanksAgreeOnTheStepAtWhichOneIsAskedToStop) {
    const SharedFolder folder;
    const SharedFolder straight;
    auto training = on_all_ranks(toy_settings(folder.path()));
    const bool asked = test_world().rank() == test_world().size() - 1;
    training->data.on_step = [&](const DataPosition& position) {
        if (asked && position == DataPosition{.epoch = 0, .examples = 64}) training->stop.wanted = true;
    };
    const TrainingResult result = training->trainer().run();
    EXPECT_EQ(result.reason, EndReason::kStopped);
    const auto steps = test_world().gather_all(std::to_string(result.step));
    for (const std::string& step : steps) EXPECT_EQ(step, steps[0]);
    EXPECT_LT(result.step, kSteps);
    wait_for_all_ranks();
    EXPECT_EQ(CheckpointFolder(folder.path() + "/checkpoints").steps().back(), result.step);

    testing::internal::CaptureStderr();
    auto rest = on_all_ranks(toy_settings(folder.path()));
    EXPECT_EQ(rest->trainer().run().step, kSteps);
    (void)testing::internal::GetCapturedStderr();
    auto whole = on_all_ranks(toy_settings(straight.path()));
    (void)whole->trainer().run();
    EXPECT_EQ(rest->trainer().parameters(), whole->trainer().parameters());
}

TEST(Trainer, AStopFileOfOneHostStopsAllRanksAndTheRunGoesOnFromThere) {
    const SharedFolder folder;
    TrainerSettings settings = toy_settings(folder.path());
    settings.train.stop_file = fmt::format("{}/stop-{}", folder.path(), test_world().rank());
    if (test_world().rank() == test_world().size() - 1) std::ofstream(settings.train.stop_file).close();
    const TrainingResult result = on_all_ranks(settings)->trainer().run();
    EXPECT_EQ(result.reason, EndReason::kStopped);
    EXPECT_EQ(result.step, 1);
    wait_for_all_ranks();
    EXPECT_EQ(CheckpointFolder(folder.path() + "/checkpoints").steps(), (std::vector<std::int64_t>{1}));

    testing::internal::CaptureStderr();
    const TrainingResult rest = on_all_ranks(toy_settings(folder.path()))->trainer().run();
    (void)testing::internal::GetCapturedStderr();
    EXPECT_EQ(rest.step, kSteps);
}

TEST(Trainer, RefusesMicroBatchesThatRanksCannotShareEvenly) {
    if (test_world().size() == 1) return;  // one rank shares anything with itself
    const SharedFolder folder;
    TrainerSettings settings = toy_settings(folder.path());
    settings.train.micro_batches_per_step = test_world().size() + 1;
    auto training = on_all_ranks(settings);
    try {
        (void)training->trainer();
        ADD_FAILURE() << "no error";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kConfiguration);
        EXPECT_THAT(error.what(), HasSubstr("for example " + std::to_string(2 * test_world().size())));
    }
}

TEST(Trainer, NamesTheRankWhoseVocabularyDiffers) {
    if (test_world().size() == 1) return;  // nobody to differ from
    const SharedFolder folder;
    auto training = on_all_ranks(toy_settings(folder.path()));
    if (test_world().rank() == 1) training->vocabulary = toy_vocabulary("other");
    try {
        (void)training->trainer();
        ADD_FAILURE() << "no error";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kData);
        EXPECT_THAT(error.what(), HasSubstr("the vocabulary's hash is " + toy_vocabulary().hash() + " on rank 0"));
        EXPECT_THAT(error.what(), HasSubstr(toy_vocabulary("other").hash() + " on rank 1"));
    }
}

/// Passes everything on, but makes chosen sums (1-based) of one kind not a number.
class PoisoningCommunicator final : public Communicator {
   public:
    PoisoningCommunicator(std::unique_ptr<Communicator> inner, std::set<int> poisoned, std::string kind)
        : inner_(std::move(inner)), poisoned_(std::move(poisoned)), kind_(std::move(kind)) {}
    [[nodiscard]] int rank() const override { return inner_->rank(); }
    [[nodiscard]] int size() const override { return inner_->size(); }
    void all_reduce_sum(const Tensor& x, const char* what) override {
        if (what == kind_ && poisoned_.contains(++count_)) {
            x.as<float>()[0] = std::numeric_limits<float>::quiet_NaN();
        }
        inner_->all_reduce_sum(x, what);
    }
    void reduce_scatter_sum(const Tensor& piece, const Tensor& x, const char* what) override {
        inner_->reduce_scatter_sum(piece, x, what);
    }
    void all_gather(const Tensor& x, const Tensor& piece, const char* what) override {
        inner_->all_gather(x, piece, what);
    }
    void broadcast(const Tensor& x, int root, const char* what) override { inner_->broadcast(x, root, what); }
    void barrier() override { inner_->barrier(); }
    void join() override { inner_->join(); }
    void confirm() override { inner_->confirm(); }

   private:
    std::unique_ptr<Communicator> inner_;
    std::set<int> poisoned_;
    std::string kind_;
    int count_ = 0;
};

std::unique_ptr<ToyTraining> with_poison(const TrainerSettings& settings, std::set<int> poisoned,
                                         const std::string& kind = "the sum of a step's statistics") {
    auto training = on_all_ranks(settings);
    training->communicator =
        std::make_unique<PoisoningCommunicator>(std::move(training->communicator), std::move(poisoned), kind);
    return training;
}

TEST(Trainer, AStepThatIsNotFiniteChangesNothingAndIsCounted) {
    const SharedFolder folder;
    TrainerSettings settings = toy_settings(folder.path());
    settings.train.steps = 3;
    auto training = with_poison(settings, {3});
    testing::internal::CaptureStderr();
    const TrainingResult result = training->trainer().run();
    const std::string log = testing::internal::GetCapturedStderr();
    EXPECT_EQ(log.find("step 3 is skipped: its loss is nan") != std::string::npos, test_world().rank() == 0);
    EXPECT_EQ(result.skipped_steps, 1);
    EXPECT_EQ(result.step, 3);

    const SharedFolder shorter_folder;
    TrainerSettings shorter = toy_settings(shorter_folder.path());
    shorter.train.steps = 2;
    auto two_steps = on_all_ranks(shorter);
    (void)two_steps->trainer().run();
    EXPECT_EQ(training->trainer().parameters(), two_steps->trainer().parameters());
}

TEST(Trainer, AValidationThatIsNotFiniteIsNotTheBest) {
    const SharedFolder folder;
    TrainerSettings settings = toy_settings(folder.path());
    settings.train.steps = 3;
    settings.train.validation_interval_steps = 1;
    settings.checkpoint.interval_steps = 0;  // so that only the best and the last are saved
    (void)with_poison(settings, {1}, "the sum of validation losses")->trainer().run();
    wait_for_all_ranks();
    EXPECT_EQ(CheckpointFolder(folder.path() + "/checkpoints").steps(), (std::vector<std::int64_t>{2, 3}));
}

TEST(Trainer, TooManySkippedStepsEndTheRun) {
    const SharedFolder folder;
    TrainerSettings settings = toy_settings(folder.path());
    settings.train.max_skipped_steps = 2;
    auto training = with_poison(settings, {2, 4, 5, 6});
    testing::internal::CaptureStderr();
    try {
        (void)training->trainer().run();
        ADD_FAILURE() << "no error";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kConfiguration);
        EXPECT_THAT(error.what(), HasSubstr("3 steps in a row"));
        EXPECT_THAT(error.what(), HasSubstr("step 6"));
    }
    (void)testing::internal::GetCapturedStderr();
}

}  // namespace
}  // namespace duologue
