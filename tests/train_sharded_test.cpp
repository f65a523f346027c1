// The sharded optimizer and sums staged through the host on 1, 2 and 4 ranks: the same training as without them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "duologue/train/checkpoint.h"
#include "duologue/train/staged_communicator.h"
#include "support/mpi_main.h"
#include "support/reference_backend.h"
#include "support/shared_folder.h"
#include "support/toy_training.h"

namespace duologue {
namespace {

constexpr std::int64_t kSteps = 12;  // of a whole toy run: two epochs of six steps

/// How a run is done; everything else is alike.
struct Way {
    bool shard_optimizer = false;
    Precision precision = Precision::kF32;
    double clip_norm = 1.0;
    std::int64_t steps = 0;  ///< 0: the whole run
};

TrainerSettings settings_of(const std::string& folder, const Way& way) {
    TrainerSettings settings = toy_settings(folder);
    settings.shard_optimizer = way.shard_optimizer;
    settings.train.precision = way.precision;
    settings.train.clip_norm = way.clip_norm;
    settings.train.steps = way.steps;
    return settings;
}

std::vector<float> parameters_after(const std::string& folder, const Way& way) {
    ToyTraining training(make_reference_backend(), test_world(), make_mpi_communicator(test_world()),
                         settings_of(folder, way));
    testing::internal::CaptureStderr();  // "going on from"
    (void)training.trainer().run();
    (void)testing::internal::GetCapturedStderr();
    return training.trainer().parameters();
}

std::vector<double> losses_of(const std::string& folder) {
    wait_for_all_ranks();  // rank 0 writes the file
    std::vector<double> losses;
    std::ifstream file(folder + "/metrics.jsonl");
    for (std::string line; std::getline(file, line);) {
        const auto event = nlohmann::json::parse(line);
        if (event["event"] == "step") losses.push_back(event["train_loss"].get<double>());
    }
    return losses;
}

// Losses and not parameters: where a gradient is 0 but for rounding, such as that of a key's bias, Adam's division by
// the root of the second moment makes a whole step of it. Weights of bf16 differ where masters stand between two of
// them.
void expect_same_training(const std::string& a, const std::string& b, Precision precision) {
    const double tolerance = precision == Precision::kF32 ? 1e-5 : 5e-3;
    const std::vector<double> losses = losses_of(a);
    const std::vector<double> expected = losses_of(b);
    ASSERT_EQ(losses.size(), static_cast<std::size_t>(kSteps));
    ASSERT_EQ(expected.size(), losses.size());
    for (std::size_t i = 0; i < losses.size(); ++i) {
        EXPECT_NEAR(losses[i], expected[i], tolerance * (1.0 + expected[i])) << "step " << i + 1;
    }
}

TEST(ShardedOptimizer, GivesTheLossesOfTheWholeOptimizer) {
    const SharedFolder sharded;
    const SharedFolder whole;
    (void)parameters_after(sharded.path(), {.shard_optimizer = true});
    (void)parameters_after(whole.path(), {});
    expect_same_training(sharded.path(), whole.path(), Precision::kF32);
}

TEST(ShardedOptimizer, OfTwoRanksWithoutClippingGivesTheSameBits) {
    if (test_world().size() > 2) return;  // more than two summands may be added in another order
    for (const Precision precision : {Precision::kF32, Precision::kBf16}) {
        const SharedFolder sharded;
        const SharedFolder whole;
        EXPECT_EQ(parameters_after(sharded.path(), {.shard_optimizer = true, .precision = precision, .clip_norm = 0.0}),
                  parameters_after(whole.path(), {.precision = precision, .clip_norm = 0.0}));
    }
}

TEST(ShardedOptimizer, EveryRankEndsWithTheSameParameters) {
    const SharedFolder folder;
    const std::vector<float> mine =
        parameters_after(folder.path(), {.shard_optimizer = true, .precision = Precision::kBf16});
    const auto all = test_world().gather_all({reinterpret_cast<const char*>(mine.data()), mine.size() * sizeof(float)});
    for (const std::string& other : all) EXPECT_EQ(other, all[0]);
}

TEST(ShardedOptimizer, ItsCheckpointIsTheWholeOptimizers) {
    const SharedFolder sharded;
    const SharedFolder whole;
    const std::vector<float> parameters = parameters_after(sharded.path(), {.shard_optimizer = true, .clip_norm = 0.0});
    (void)parameters_after(whole.path(), {.clip_norm = 0.0});
    wait_for_all_ranks();
    const Checkpoint a = read_checkpoint(CheckpointFolder(sharded.path() + "/checkpoints").file_of(kSteps));
    const Checkpoint b = read_checkpoint(CheckpointFolder(whole.path() + "/checkpoints").file_of(kSteps));
    EXPECT_EQ(a.summary.shapes, b.summary.shapes);
    EXPECT_EQ(a.values, parameters);
    EXPECT_EQ(a.first.size(), b.first.size());
    EXPECT_EQ(a.second.size(), b.second.size());
    if (test_world().size() <= 2) {  // more summands may be added in another order
        EXPECT_EQ(a.values, b.values);
        EXPECT_EQ(a.first, b.first);
        EXPECT_EQ(a.second, b.second);
    }
    EXPECT_EQ(CheckpointFolder(sharded.path() + "/checkpoints").steps(),
              CheckpointFolder(whole.path() + "/checkpoints").steps());
}

// f32 and bf16: in the latter masters and weights are apart.
class ResumedWith : public testing::TestWithParam<Precision> {};

TEST_P(ResumedWith, TheSameOwnersItIsTheUninterruptedRun) {
    const SharedFolder straight;
    const SharedFolder broken;
    const Way way{.shard_optimizer = true, .precision = GetParam()};
    const std::vector<float> expected = parameters_after(straight.path(), way);
    Way first = way;
    first.steps = 5;
    (void)parameters_after(broken.path(), first);
    EXPECT_EQ(parameters_after(broken.path(), way), expected);
}

TEST_P(ResumedWith, TheOtherWayOfOwningItIsTheSameTraining) {
    const SharedFolder straight;
    const SharedFolder broken;
    (void)parameters_after(straight.path(), {.precision = GetParam()});
    (void)parameters_after(broken.path(), {.precision = GetParam(), .steps = 4});
    (void)parameters_after(broken.path(), {.shard_optimizer = true, .precision = GetParam(), .steps = 8});
    (void)parameters_after(broken.path(), {.precision = GetParam()});
    expect_same_training(broken.path(), straight.path(), GetParam());
}

TEST_P(ResumedWith, AnotherNumberOfOwnersItIsTheSameTraining) {
    const SharedFolder folder;
    const SharedFolder straight;
    (void)parameters_after(folder.path(), {.shard_optimizer = true, .precision = GetParam(), .steps = 6});
    (void)parameters_after(straight.path(), {.shard_optimizer = true, .precision = GetParam()});
    const TemporaryFolder alone;
    wait_for_all_ranks();
    std::filesystem::copy(folder.path(), alone.path(), std::filesystem::copy_options::recursive);
    ToyTraining rest(make_reference_backend(), test_world(), make_single_communicator(),
                     settings_of(alone.path(), {.shard_optimizer = true, .precision = GetParam()}));
    testing::internal::CaptureStderr();
    EXPECT_EQ(rest.trainer().run().step, kSteps);
    (void)testing::internal::GetCapturedStderr();
    expect_same_training(alone.path(), straight.path(), GetParam());
}

INSTANTIATE_TEST_SUITE_P(Precisions, ResumedWith, testing::Values(Precision::kF32, Precision::kBf16));

TEST(StagedCommunicator, GivesTheBitsOfSumsInHostMemory) {
    for (const bool shard : {false, true}) {
        const SharedFolder direct;
        const SharedFolder through;
        const Way way{.shard_optimizer = shard, .precision = Precision::kBf16};
        const std::vector<float> expected = parameters_after(direct.path(), way);
        auto backend = make_reference_backend();
        auto communicator = make_staged_communicator(*backend, make_mpi_communicator(test_world()));
        ToyTraining staged(std::move(backend), test_world(), std::move(communicator), settings_of(through.path(), way));
        (void)staged.trainer().run();
        EXPECT_EQ(staged.trainer().parameters(), expected);
    }
}

TEST(StagedCommunicator, MemoryIsTheDevicesUntilJoin) {
    auto backend = make_reference_backend();
    const auto communicator = make_staged_communicator(*backend, make_mpi_communicator(test_world()));
    std::vector<float> x(7, 1.0F);
    const Tensor view = make_vector(x.data(), DataType::kF32, 7);
    for (int round = 0; round < 3; ++round) {
        std::fill(x.begin(), x.end(), 1.0F);
        communicator->all_reduce_sum(view, "test sum");
        EXPECT_EQ(x, std::vector<float>(7, 1.0F));
        communicator->join();
        EXPECT_EQ(x, std::vector<float>(7, static_cast<float>(test_world().size())));
    }
}

}  // namespace
}  // namespace duologue
