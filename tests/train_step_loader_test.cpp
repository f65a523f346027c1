// StepLoader: one step ahead, and errors only to those who take.
#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <thread>

#include "duologue/core/error.h"
#include "train/step_loader.h"

namespace duologue {
namespace {

/// Steps of one example each; a step is made when the test lets it, and the one at `broken_at` is an error.
class GatedData final : public TrainingData {
   public:
    GlobalStep step(const DataPosition& position, std::int64_t /*micro_batches*/, int /*rank*/,
                    int /*ranks*/) override {
        if (position.examples >= 1) open_.get_future().wait();
        require(position.examples != broken_at, ErrorCode::kData, "example {} is broken", position.examples);
        GlobalStep step{.micro_batches = {}, .next = position};
        ++step.next.examples;
        return step;
    }
    [[nodiscard]] std::int64_t examples_per_epoch() const override { return 100; }
    void open() { open_.set_value(); }

    std::int64_t broken_at = -1;

   private:
    std::promise<void> open_;  // the gate in front of the second step
};

const GlobalStep* wait_for(StepLoader& loader, const DataPosition& position) {
    for (int i = 0; i < 1000; ++i) {
        if (const GlobalStep* step = loader.made(position)) return step;
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return nullptr;
}

TEST(StepLoader, ShowsTheNextStepAsSoonAsItIsMade) {
    GatedData data;
    StepLoader loader(data, {});
    EXPECT_EQ(loader.made({}), nullptr) << "nothing was asked for";
    const GlobalStep first = loader.take({});
    EXPECT_EQ(first.next.examples, 1);
    EXPECT_EQ(loader.made(first.next), nullptr);
    data.open();
    const GlobalStep* next = wait_for(loader, first.next);
    ASSERT_NE(next, nullptr);
    EXPECT_EQ(next->next.examples, 2);
    EXPECT_EQ(loader.made({.epoch = 3}), nullptr) << "another step";
}

TEST(StepLoader, KeepsAnErrorForTheOneWhoTakes) {
    GatedData data;
    data.broken_at = 1;
    StepLoader loader(data, {});
    const GlobalStep first = loader.take({});
    data.open();
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    EXPECT_EQ(loader.made(first.next), nullptr);
    EXPECT_THROW((void)loader.take(first.next), Error);
}

}  // namespace
}  // namespace duologue
