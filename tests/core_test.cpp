// Views, arenas, random numbers, bfloat16 rounding and locks of folders.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <limits>
#include <memory>
#include <thread>
#include <vector>

#include "duologue/core/arena.h"
#include "duologue/core/error.h"
#include "duologue/core/folder_lock.h"
#include "duologue/core/random.h"
#include "duologue/core/tensor.h"
#include "support/temporary_folder.h"

namespace duologue {
namespace {

TEST(Tensor, SlicesKeepTheRowStride) {
    std::vector<float> values(12);
    const Tensor whole = make_tensor(values.data(), DataType::kF32, 3, 4);
    const Tensor part = whole.row_range(1, 2).column_range(2, 2);
    EXPECT_EQ(part.as<float>(), values.data() + 6);
    EXPECT_EQ(part.row_stride, 4);
    EXPECT_FALSE(part.contiguous());
    EXPECT_THROW((void)whole.row_range(2, 2), Error);
    EXPECT_THROW((void)part.reshaped(1, 4), Error);
}

TEST(Arena, ABoundArenaHoldsExactlyWhatWasMeasured) {
    const auto use = [](Arena& arena) {
        (void)arena.allocate(DataType::kF32, 10, 10);
        {
            const Arena::Scope scope(arena);
            (void)arena.allocate(DataType::kBf16, 100, 7);
        }
        (void)arena.allocate_vector(DataType::kI32, 3);
    };
    Arena measuring;
    use(measuring);
    std::vector<std::byte> memory(static_cast<std::size_t>(measuring.peak_bytes() + Arena::kAlignment));
    void* start = memory.data();
    std::size_t space = memory.size();
    ASSERT_NE(std::align(Arena::kAlignment, 1, start, space), nullptr);
    Arena bound(start, measuring.peak_bytes());
    use(bound);
    EXPECT_EQ(bound.peak_bytes(), measuring.peak_bytes());
    EXPECT_THROW((void)bound.allocate(DataType::kF32, 10, 100), Error);
}

// Known answers of Philox 4x32-10 from the Random123 distribution (kat_vectors).
TEST(Random, PhiloxGivesThePublishedAnswers) {
    const std::array<std::uint32_t, 4> zero{0x6627e8d5U, 0xe169c58dU, 0xbc57ac4cU, 0x9b00dbd8U};
    EXPECT_EQ(philox(0, 0, 0), zero);
    const std::array<std::uint32_t, 4> ones{0x408f276dU, 0x41c83b0eU, 0xa20bc7c6U, 0x6d5451fdU};
    EXPECT_EQ(philox(~0ULL, ~0ULL, ~0ULL), ones);
}

TEST(Random, DropoutDropsTheShareAskedFor) {
    const std::uint32_t threshold = dropout_threshold(0.1F);
    int dropped = 0;
    constexpr int kCount = 200000;
    for (std::uint64_t i = 0; i < kCount; ++i) dropped += dropout_keeps(7, i, threshold) ? 0 : 1;
    const double sigma = std::sqrt(kCount * 0.1 * 0.9);
    EXPECT_NEAR(dropped, kCount * 0.1, 5 * sigma);
    EXPECT_FLOAT_EQ(dropout_scale(0.5F), 2.0F);
}

TEST(Random, BoundedNumbersAreUniform) {
    RandomStream stream(3);
    std::vector<int> counts(7);
    for (int i = 0; i < 70000; ++i) ++counts[stream.below(7)];
    for (const int count : counts) EXPECT_NEAR(count, 10000, 500);
}

TEST(FolderLock, IsHeldByOneAtATimeAndWaitedFor) {
    const TemporaryFolder folder;
    auto first = std::make_unique<FolderLock>(folder.path(), "a test", 0.0);
    EXPECT_TRUE(first->held());
    try {
        const FolderLock second(folder.path(), "a test", 0.1);
        ADD_FAILURE() << "two hold it";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kInputOutput);
        EXPECT_THAT(error.what(), testing::HasSubstr("a test is already at work in '" + folder.path()));
    }
    std::thread ending([&first] {
        std::this_thread::sleep_for(std::chrono::milliseconds(200));
        first.reset();
    });
    const FolderLock next(folder.path(), "a test", 60.0);
    EXPECT_TRUE(next.held());
    ending.join();
}

TEST(Bfloat16, RoundsToNearestEven) {
    EXPECT_EQ(Bfloat16(1.0F).bits, 0x3f80);
    EXPECT_EQ(Bfloat16(1.00390625F).bits, 0x3f80);  // half way: to even
    EXPECT_EQ(Bfloat16(1.01171875F).bits, 0x3f82);  // half way: to even, upwards
    EXPECT_TRUE(std::isnan(static_cast<float>(Bfloat16(std::numeric_limits<float>::quiet_NaN()))));
    EXPECT_TRUE(std::isinf(static_cast<float>(Bfloat16(std::numeric_limits<float>::max()))));
}

}  // namespace
}  // namespace duologue
