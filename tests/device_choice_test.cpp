// Which device a rank takes, from what all ranks see: one GPU each, or a sentence that says why not.
#include "duologue/train/device_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "duologue/core/error.h"

namespace duologue {
namespace {

using testing::HasSubstr;

std::vector<CudaDevice> gpus(int count) {
    std::vector<CudaDevice> list;
    for (int i = 0; i < count; ++i) list.push_back({.index = i, .id = "card" + std::to_string(i)});
    return list;
}

// Two hosts of two ranks, each of which sees `count` GPUs.
std::vector<RankView> two_by_two(int count) {
    return {{"a", gpus(count)}, {"a", gpus(count)}, {"b", gpus(count)}, {"b", gpus(count)}};
}

std::string refusal(const DeviceConfig& device, const std::vector<RankView>& ranks) {
    try {
        (void)choose_device(device, {}, ranks, 0);
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kDevice);
        return error.what();
    }
    ADD_FAILURE() << "no error";
    return "";
}

TEST(DeviceChoice, TheCpuNeedsNoGpuAndTakesNone) {
    EXPECT_EQ(choose_device({.kind = DeviceKind::kCpu}, {}, two_by_two(2), 3).kind, DeviceKind::kCpu);
    EXPECT_EQ(choose_device({.kind = DeviceKind::kCpu}, {}, two_by_two(0), 3).kind, DeviceKind::kCpu);
}

TEST(DeviceChoice, AutoIsTheGpuWhereAllHaveOneAndTheCpuWhereNoneHas) {
    EXPECT_EQ(choose_device({.kind = DeviceKind::kAuto}, {}, two_by_two(2), 0).kind, DeviceKind::kCuda);
    EXPECT_EQ(choose_device({.kind = DeviceKind::kAuto}, {}, two_by_two(0), 0).kind, DeviceKind::kCpu);
}

TEST(DeviceChoice, RanksOfAHostTakeItsGpusInOrder) {
    for (int rank = 0; rank < 4; ++rank) {
        EXPECT_EQ(choose_device({.kind = DeviceKind::kCuda}, {}, two_by_two(8), rank).gpu, rank % 2);
    }
}

TEST(DeviceChoice, RanksWhoseHostsAreInterleavedStillTakeTheirOwnHostsGpus) {
    const std::vector<RankView> ranks{{"a", gpus(2)}, {"b", gpus(2)}, {"a", gpus(2)}, {"b", gpus(2)}};
    EXPECT_EQ(choose_device({.kind = DeviceKind::kCuda}, {}, ranks, 1).gpu, 0);
    EXPECT_EQ(choose_device({.kind = DeviceKind::kCuda}, {}, ranks, 2).gpu, 1);
}

TEST(DeviceChoice, AGpuThatTheLauncherDealtToARankIsItsOwn) {
    const std::vector<RankView> ranks{{"a", {{.index = 0, .id = "x"}}}, {"a", {{.index = 0, .id = "y"}}}};
    EXPECT_EQ(choose_device({.kind = DeviceKind::kCuda}, {}, ranks, 1).gpu, 0);
}

TEST(DeviceChoice, CardsThatAreTooOldAreLeftOutByTheirNumber) {
    const std::vector<RankView> ranks{{"a", {{.index = 1, .id = "new"}}}};
    EXPECT_EQ(choose_device({.kind = DeviceKind::kAuto}, {}, ranks, 0).gpu, 1);
}

TEST(DeviceChoice, FewerGpusThanRanksIsRefusedWithBothCountsAndTheRemedy) {
    const std::string text = refusal({.kind = DeviceKind::kCuda}, two_by_two(1));
    EXPECT_THAT(text, HasSubstr("a has 1 GPU for 2 ranks"));
    EXPECT_THAT(text, HasSubstr("ppr:1:node"));
    EXPECT_THAT(text, HasSubstr("distributed.share_device=true"));
}

TEST(DeviceChoice, RanksThatMayShareTakeTurns) {
    const std::vector<RankView> ranks(5, {"a", gpus(2)});
    for (int rank = 0; rank < 5; ++rank) {
        EXPECT_EQ(choose_device({.kind = DeviceKind::kCuda}, {.share_device = true}, ranks, rank).gpu, rank % 2);
    }
}

TEST(DeviceChoice, AHostWithoutGpusIsNamed) {
    const std::vector<RankView> mixed{{"a", gpus(1)}, {"b", {}}};
    EXPECT_THAT(refusal({.kind = DeviceKind::kAuto}, mixed), HasSubstr("device.kind = auto, but rank 1 on b"));
    EXPECT_THAT(refusal({.kind = DeviceKind::kCuda}, mixed), HasSubstr("device.kind = cuda, but rank 1 on b"));
    const std::string text = refusal({.kind = DeviceKind::kCuda}, two_by_two(0));
    EXPECT_THAT(text, HasSubstr("rank 0 on a can use no GPU"));
    EXPECT_THAT(text, HasSubstr("CUDA_VISIBLE_DEVICES"));
}

}  // namespace
}  // namespace duologue
