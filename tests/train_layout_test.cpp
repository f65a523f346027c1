// Where flat buffers are cut: buckets and pieces cover everything once, whoever owns them; gradient buckets are queued
// in order.
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "duologue/core/error.h"
#include "duologue/train/gradient_sync.h"
#include "support/reference_backend.h"

namespace duologue {
namespace {

std::int64_t bucket_bytes_of(std::int64_t elements) { return elements * static_cast<std::int64_t>(sizeof(float)); }

TEST(FlatLayout, WithoutShardingEverythingIsOnePiece) {
    const FlatLayout layout(1000, bucket_bytes_of(300), {});
    EXPECT_FALSE(layout.sharded());
    EXPECT_EQ(layout.padded_elements(), 1000);
    EXPECT_EQ(layout.slice_elements(), 1000);
    EXPECT_EQ(layout.buckets(), (std::vector<FlatRange>{{0, 300}, {300, 300}, {600, 300}, {900, 100}}));
    EXPECT_EQ(layout.pieces(), (std::vector<Piece>{{.range = {.begin = 0, .length = 1000}, .offset = 0}}));
}

TEST(FlatLayout, BucketsHoldAtLeastWhatWasAskedFor) {
    const FlatLayout layout(1000, 1198, {});  // 299.5 elements
    EXPECT_EQ(layout.buckets().front().length, 300);
}

class ShardedLayout : public testing::TestWithParam<std::pair<std::int64_t, int>> {};

TEST_P(ShardedLayout, ThePiecesOfAllOwnersCoverEveryElementOnce) {
    const auto [elements, owners] = GetParam();
    std::vector<int> owned;
    std::int64_t slices = 0;
    for (int owner = 0; owner < owners; ++owner) {
        const FlatLayout layout(elements, bucket_bytes_of(500), {.index = owner, .count = owners});
        owned.resize(static_cast<std::size_t>(layout.padded_elements()));
        ASSERT_EQ(layout.pieces().size(), layout.buckets().size());
        std::int64_t offset = 0;
        for (const Piece& piece : layout.pieces()) {
            EXPECT_EQ(piece.offset, offset);
            EXPECT_EQ(piece.range.begin % FlatLayout::kPieceAlignment, 0);
            EXPECT_EQ(piece.range.length % FlatLayout::kPieceAlignment, 0);
            offset += piece.range.length;
            for (std::int64_t i = 0; i < piece.range.length; ++i) {
                ++owned.at(static_cast<std::size_t>(piece.range.begin + i));
            }
        }
        EXPECT_EQ(layout.slice_elements(), offset);
        slices += offset;
    }
    EXPECT_GE(static_cast<std::int64_t>(owned.size()), elements);
    EXPECT_EQ(slices, static_cast<std::int64_t>(owned.size()));
    EXPECT_EQ(owned, std::vector<int>(owned.size(), 1));
}

TEST_P(ShardedLayout, APieceIsItsOwnersPartOfTheBucket) {
    const auto [elements, owners] = GetParam();
    const FlatLayout layout(elements, bucket_bytes_of(500), {.index = owners - 1, .count = owners});
    for (std::size_t i = 0; i < layout.buckets().size(); ++i) {
        const FlatRange& bucket = layout.buckets()[i];
        const FlatRange& piece = layout.pieces()[i].range;
        EXPECT_EQ(piece.length * owners, bucket.length);
        EXPECT_EQ(piece.begin + piece.length, bucket.begin + bucket.length);
    }
}

INSTANTIATE_TEST_SUITE_P(Sizes, ShardedLayout,
                         testing::Values(std::pair{1000L, 2}, std::pair{1L, 3}, std::pair{12345L, 7},
                                         std::pair{4096L, 8}));

TEST(FlatLayout, RefusesAnOwnerThatIsNotThere) { EXPECT_THROW(FlatLayout(10, 1024, {.index = 2, .count = 2}), Error); }

/// Remembers which parts of `base` were to be summed, and how.
class RecordingCommunicator final : public Communicator {
   public:
    explicit RecordingCommunicator(const float* base) : base_(base) {}
    [[nodiscard]] int rank() const override { return 0; }
    [[nodiscard]] int size() const override { return 2; }
    void all_reduce_sum(const Tensor& x, const char* /*what*/) override { sums.push_back(range(x)); }
    void reduce_scatter_sum(const Tensor& piece, const Tensor& x, const char* /*what*/) override {
        sums.push_back(range(x));
        pieces.push_back(range(piece));
    }
    void all_gather(const Tensor& /*x*/, const Tensor& /*piece*/, const char* /*what*/) override {}
    void broadcast(const Tensor& /*x*/, int /*root*/, const char* /*what*/) override {}
    void barrier() override {}
    void join() override { joined = true; }
    void confirm() override {}

    std::vector<FlatRange> sums;
    std::vector<FlatRange> pieces;
    bool joined = false;

   private:
    [[nodiscard]] FlatRange range(const Tensor& x) const { return {x.as<float>() - base_, x.elements()}; }
    const float* base_;
};

class GradientSyncTest : public testing::Test {
   protected:
    static constexpr std::int64_t kGradients = 1024;

    GradientSyncTest() { table.add("all", 1, kGradients, Initializer::kZero, 0.0); }
    [[nodiscard]] TrainingState state(const Owner& owner) const {
        return {*backend, table, DataType::kBf16, FlatLayout(kGradients, bucket_bytes_of(300), owner)};
    }

    ParameterTable table;
    std::unique_ptr<Backend> backend = make_reference_backend();
    PlainRepeater repeater;
    float statistics_memory = 0.0F;
    Tensor statistics = make_vector(&statistics_memory, DataType::kF32, 1);
    std::vector<FlatRange> buckets{{0, 300}, {300, 300}, {600, 300}, {900, 124}};
};

TEST_F(GradientSyncTest, QueuesABucketAsSoonAsItIsFinished) {
    const TrainingState whole = state({});
    RecordingCommunicator communicator(whole.gradients().as<float>());
    GradientSync sync(communicator, whole, repeater);
    sync.begin();
    sync.finished(0, 299);
    EXPECT_TRUE(communicator.sums.empty());
    sync.finished(299, 650);
    EXPECT_EQ(communicator.sums.size(), 2U);
    sync.finished(650, kGradients);
    EXPECT_EQ(communicator.sums, buckets);
    EXPECT_FALSE(communicator.joined);
    sync.join(statistics);
    EXPECT_EQ(communicator.sums.size(), buckets.size() + 1);
    EXPECT_TRUE(communicator.joined);
}

TEST_F(GradientSyncTest, ARankWithoutWorkQueuesTheSameSums) {
    const TrainingState whole = state({});
    RecordingCommunicator communicator(whole.gradients().as<float>());
    GradientSync sync(communicator, whole, repeater);
    for (int step = 0; step < 2; ++step) {
        communicator.sums.clear();
        sync.begin();
        sync.join(statistics);
        communicator.sums.pop_back();  // the statistics
        EXPECT_EQ(communicator.sums, buckets);
    }
}

TEST_F(GradientSyncTest, AnOwnerGetsTheSumOfItsPiecesWhileTheRestIsStillComputed) {
    const TrainingState half = state({.index = 1, .count = 2});
    RecordingCommunicator communicator(half.gradients().as<float>());
    GradientSync sync(communicator, half, repeater);
    sync.begin();
    sync.finished(0, 400);  // buckets of 300 are rounded up to two pieces of 192
    EXPECT_EQ(communicator.sums, (std::vector<FlatRange>{{0, 384}}));
    EXPECT_EQ(communicator.pieces, (std::vector<FlatRange>{{192, 192}}));
    sync.finished(400, kGradients);
    EXPECT_EQ(communicator.sums.back(), (FlatRange{768, 256}));
    EXPECT_EQ(communicator.pieces.back(), (FlatRange{896, 128}));
}

TEST_F(GradientSyncTest, RefusesGaps) {
    const TrainingState whole = state({});
    RecordingCommunicator communicator(whole.gradients().as<float>());
    GradientSync sync(communicator, whole, repeater);
    sync.finished(0, 10);
    EXPECT_THROW(sync.finished(11, 20), Error);
    EXPECT_THROW(sync.finished(10, kGradients + 1), Error);
}

}  // namespace
}  // namespace duologue
