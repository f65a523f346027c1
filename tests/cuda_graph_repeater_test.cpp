// GraphRepeater over streams that are not there: what is captured, kept and launched; and the cache it keeps graphs in.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "backend/cuda/graph_repeater.h"
#include "backend/cuda/streams.h"
#include "duologue/core/error.h"
#include "emulated_gpu/streams.h"

namespace duologue {
namespace {

using cuda::GraphRepeater;
using cuda::RecentlyUsed;
using emulated_gpu::gpu;
using testing::ElementsAre;
using testing::HasSubstr;

class GraphRepeaterTest : public testing::Test {
   protected:
    void SetUp() override {
        gpu() = {};
        stream_ = cuda::make_stream();
        repeater_.emplace(stream_.get(), 3);
    }

    void queue(int what) {
        emulated_gpu::queue_work(stream_.get(), [this, what] { done_.push_back(what); });
    }
    // Runs "queue 1, on the host 100, queue 2" for this key.
    void run_in_two_parts(std::int64_t key) {
        repeater_->run({key}, [this] {
            ++calls_;
            queue(1);
            repeater_->between([this] { queue(100); });
            queue(2);
        });
    }
    void run_simply(std::int64_t key) {
        repeater_->run({key}, [this, key] {
            ++calls_;
            queue(static_cast<int>(key));
        });
    }
    std::vector<int> done() {
        cudaStreamSynchronize(stream_.get());
        return std::exchange(done_, {});
    }

    cuda::Stream stream_;
    std::optional<GraphRepeater> repeater_;
    std::vector<int> done_;
    int calls_ = 0;
};

TEST_F(GraphRepeaterTest, EveryRunQueuesTheSameAndTheWorkIsCalledTwice) {
    for (int run = 0; run < 5; ++run) {
        SCOPED_TRACE(run);
        run_simply(7);
        EXPECT_THAT(done(), ElementsAre(7));
        EXPECT_EQ(calls_, run == 0 ? 1 : 2);
        EXPECT_EQ(gpu().launched, run);
    }
    EXPECT_EQ(gpu().instantiated, 1);
}

TEST_F(GraphRepeaterTest, WhatTheHostDoesInTheMiddleIsDoneInTheMiddleOfEveryRun) {
    for (int run = 0; run < 4; ++run) {
        run_in_two_parts(1);
        EXPECT_THAT(done(), ElementsAre(1, 100, 2)) << run;
    }
    EXPECT_EQ(calls_, 2);
    EXPECT_EQ(gpu().instantiated, 2);
}

TEST_F(GraphRepeaterTest, APartWithoutWorkNeedsNoGraph) {
    for (int run = 0; run < 3; ++run) {
        repeater_->run({1}, [&] {
            repeater_->between([this] { queue(5); });
            repeater_->between([this] { queue(6); });
        });
        EXPECT_THAT(done(), ElementsAre(5, 6)) << run;
    }
    EXPECT_EQ(gpu().instantiated, 0);
}

TEST_F(GraphRepeaterTest, KeysAreKeptApart) {
    for (int run = 0; run < 3; ++run) {
        run_simply(1);
        run_simply(2);
        EXPECT_THAT(done(), ElementsAre(1, 2)) << run;
    }
    EXPECT_EQ(gpu().instantiated, 2);
}

TEST_F(GraphRepeaterTest, KeepsTheGraphsOfTheWorksThatRanLast) {
    for (const int key : {1, 2, 3, 4}) {
        run_simply(key);
        run_simply(key);
    }
    EXPECT_EQ(gpu().alive, 3);
    run_simply(2);
    EXPECT_EQ(gpu().instantiated, 4) << "2 was kept";
    run_simply(1);
    EXPECT_EQ(gpu().instantiated, 5) << "1 had made room, and is captured again without a run before";
    EXPECT_EQ(gpu().alive, 3);
    done();
    repeater_.reset();
    EXPECT_EQ(gpu().alive, 0);
}

// Runs once in vain, then tells the error of the second run, and that the stream is whole behind it.
class FailedCapture : public GraphRepeaterTest {
   protected:
    std::string error_of(const Repeater::Work& work) {
        repeater_->run({1}, [] {});
        std::string message;
        try {
            repeater_->run({1}, work);
        } catch (const Error& error) {
            message = error.what();
            EXPECT_EQ(error.code(), expected_code_);
        }
        gpu().fails.clear();
        run_simply(3);
        EXPECT_THAT(done(), ElementsAre(3));
        EXPECT_EQ(gpu().alive, 0);
        return message;
    }
    ErrorCode expected_code_ = ErrorCode::kDevice;
};

TEST_F(FailedCapture, IsAnErrorThatSaysHowToDoWithout) {
    gpu().fails = "cudaGraphInstantiate";
    const std::string message = error_of([this] { queue(1); });
    EXPECT_THAT(message, HasSubstr("making a graph executable"));
    EXPECT_THAT(message, HasSubstr("device.graphs=false"));
}

TEST_F(FailedCapture, IsNoticedWhereTheWorkWaitsForSomethingOutside) {
    const cuda::Event event = cuda::make_event();
    const std::string message = error_of([&] { (void)cudaStreamWaitEvent(stream_.get(), event.get(), 0); });
    EXPECT_THAT(message, HasSubstr("ending the capture of a graph"));
}

TEST_F(FailedCapture, PassesOnWhatTheWorkComplainsOf) {
    expected_code_ = ErrorCode::kConfiguration;
    const std::string message = error_of([] { fail(ErrorCode::kConfiguration, "heads of 12 columns"); });
    EXPECT_THAT(message, HasSubstr("heads of 12 columns"));
}

TEST_F(GraphRepeaterTest, AWorkThatRunsAnotherIsRefused) {
    run_simply(2);
    repeater_->run({1}, [] {});
    EXPECT_THROW(repeater_->run({1}, [this] { run_simply(2); }), Error);
}

TEST(PlainRepeater, CallsTheWorkEachTime) {
    PlainRepeater repeater;
    std::string said;
    for (int run = 0; run < 2; ++run) {
        repeater.run({1}, [&] {
            said += "a";
            repeater.between([&] { said += "b"; });
            said += "c";
        });
    }
    EXPECT_EQ(said, "abcabc");
}

TEST(RecentlyUsed, DropsWhatWasNotAskedForLongest) {
    RecentlyUsed<int, std::string> cache(2);
    EXPECT_EQ(cache.find(1), nullptr);
    cache.insert(1, "one");
    cache.insert(2, "two");
    ASSERT_NE(cache.find(1), nullptr);
    cache.insert(3, "three");
    EXPECT_EQ(cache.size(), 2U);
    EXPECT_EQ(cache.find(2), nullptr);
    ASSERT_NE(cache.find(1), nullptr);
    EXPECT_EQ(*cache.find(1), "one");
    EXPECT_EQ(*cache.find(3), "three");
}

TEST(RecentlyUsed, HasRoomForOne) {
    RecentlyUsed<int, int> cache(1);
    for (int key = 0; key < 5; ++key) EXPECT_EQ(cache.insert(key, 10 * key), 10 * key);
    EXPECT_EQ(cache.size(), 1U);
    EXPECT_EQ(*cache.find(4), 40);
}

}  // namespace
}  // namespace duologue
