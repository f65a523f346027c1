// Training on a back end that repeats micro-batches, on 1, 2 and 4 ranks: nothing of a step is lost or frozen by it,
// and the host waits for the device at its end only.
#include <gtest/gtest.h>

#include <vector>

#include "support/mpi_main.h"
#include "support/reference_backend.h"
#include "support/repeating_backend.h"
#include "support/shared_folder.h"
#include "support/toy_training.h"

namespace duologue {
namespace {

struct Trained {
    std::vector<float> parameters;
    RepeatingCounts counts;
};

Trained train(TrainerSettings settings, Repeats repeats) {
    const SharedFolder folder;
    settings.output_path = folder.path();
    Trained trained;
    ToyTraining training(make_repeating_backend(make_reference_backend(), repeats, trained.counts), test_world(),
                         make_mpi_communicator(test_world()), settings);
    (void)training.trainer().run();
    trained.parameters = training.trainer().parameters();
    return trained;
}

TrainerSettings settings_of(std::int64_t steps) {
    TrainerSettings settings = toy_settings("");
    settings.train.steps = steps;
    settings.train.validation_interval_steps = 0;
    settings.checkpoint.interval_steps = 0;
    return settings;
}

// With dropout, whose key is another one in every micro-batch, and gradients that are summed while they are computed.
TEST(RepeatedMicroBatches, TrainTheVeryParametersThatTheyTrainWithout) {
    const Trained repeated = train(settings_of(5), Repeats::kYes);
    const Trained plain = train(settings_of(5), Repeats::kNo);
    EXPECT_EQ(repeated.parameters, plain.parameters);
    EXPECT_GT(repeated.counts.replays, 0);
    EXPECT_EQ(plain.counts.runs, 0);
}

TEST(RepeatedMicroBatches, TrainTheVeryParametersOfSeveralOwnersToo) {
    TrainerSettings settings = settings_of(4);
    settings.shard_optimizer = true;
    const Trained repeated = train(settings, Repeats::kYes);
    EXPECT_EQ(repeated.parameters, train(settings, Repeats::kNo).parameters);
    EXPECT_GT(repeated.counts.replays, 0);
}

TEST(RepeatedMicroBatches, AllOfAStepIsQueuedBeforeTheHostWaitsForIt) {
    const RepeatingCounts few = train(settings_of(2), Repeats::kYes).counts;
    const RepeatingCounts more = train(settings_of(5), Repeats::kYes).counts;
    EXPECT_EQ(more.host_waits - few.host_waits, 3) << "one for each step";
}

}  // namespace
}  // namespace duologue
