// The watch over a device's operations, with a clock of its own: what stalls is found in time, what runs or is waited
// for is not.
#include <gtest/gtest.h>

#include <string>

#include "comm/operation_watch.h"
#include "duologue/core/error.h"

namespace duologue {
namespace {

OperationWatch::Time at(double seconds) {
    return OperationWatch::Time() +
           std::chrono::duration_cast<OperationWatch::Time::duration>(std::chrono::duration<double>(1000.0 + seconds));
}
const OperationWatch::Time kNoSign{};

TEST(OperationWatch, NothingQueuedNeverStalls) {
    const OperationWatch watch;
    EXPECT_TRUE(watch.empty());
    EXPECT_FALSE(watch.stalled(1.0, kNoSign, at(1e6)));
}

TEST(OperationWatch, TheOldestOperationIsNamedWhenItsTimeIsOver) {
    OperationWatch watch;
    watch.queued("the sum of gradients", at(0.0));
    watch.queued("the sum of a step's statistics", at(0.5));
    EXPECT_FALSE(watch.stalled(10.0, kNoSign, at(9.9)));
    const auto stall = watch.stalled(10.0, kNoSign, at(10.1));
    ASSERT_TRUE(stall);
    EXPECT_EQ(std::string(stall->what), "the sum of gradients");
    EXPECT_EQ(stall->number, 1);
    EXPECT_NEAR(stall->waited_seconds, 10.1, 1e-6);
}

TEST(OperationWatch, EveryOperationThatRunsGivesTheNextItsFullTime) {
    OperationWatch watch;
    for (int i = 0; i < 100; ++i) watch.queued(i == 99 ? "last" : "earlier", at(0.0));
    for (int i = 0; i < 99; ++i) {
        ASSERT_FALSE(watch.stalled(10.0, kNoSign, at(9.0 * (i + 1)))) << "operation " << i;
        watch.ran(at(9.0 * (i + 1)));
    }
    EXPECT_FALSE(watch.stalled(10.0, kNoSign, at(900.0)));
    const auto stall = watch.stalled(10.0, kNoSign, at(901.5));
    ASSERT_TRUE(stall);
    EXPECT_EQ(std::string(stall->what), "last");
    EXPECT_EQ(stall->number, 100);
}

TEST(OperationWatch, IdleTimeBetweenStepsDoesNotCount) {
    OperationWatch watch;
    watch.queued("first", at(0.0));
    watch.ran(at(1.0));
    EXPECT_TRUE(watch.empty());
    watch.queued("second", at(5000.0));
    EXPECT_FALSE(watch.stalled(10.0, kNoSign, at(5009.0)));
    EXPECT_TRUE(watch.stalled(10.0, kNoSign, at(5011.0)));
}

TEST(OperationWatch, ASignOfABusyRankStartsTheTimeAnew) {
    OperationWatch watch;
    watch.queued("the sum of gradients", at(0.0));
    EXPECT_FALSE(watch.stalled(10.0, at(55.0), at(64.0)));
    EXPECT_TRUE(watch.stalled(10.0, at(55.0), at(66.0)));
}

TEST(OperationWatch, MoreRunsThanWereQueuedIsAProgramError) {
    OperationWatch watch;
    EXPECT_THROW(watch.ran(at(0.0)), Error);
}

}  // namespace
}  // namespace duologue
