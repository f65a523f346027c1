// Findings: versions that fit, lines with remedies, the exit status; and what readiness makes of a host's facts.
#include "duologue/core/finding.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "duologue/train/readiness.h"
#include "support/temporary_folder.h"

namespace duologue {
namespace {

using testing::HasSubstr;

constexpr std::int64_t kGiB = std::int64_t{1} << 30;
constexpr HostFacts kHost{.online_cores = 8,
                          .usable_cores = 8,
                          .memory_bytes = 16 * kGiB,
                          .available_bytes = 10 * kGiB,
                          .shared_memory_bytes = kGiB};

TEST(Versions, OfTheSameReleaseAreFine) {
    EXPECT_EQ(compare_versions("HDF5", "1.10.8", "1.10.9").verdict, Verdict::kOk);
}

TEST(Versions, OfAnotherReleaseAreDoubtfulAndSayBoth) {
    const Finding finding = compare_versions("HDF5", "1.10.8", "1.12.0");
    EXPECT_EQ(finding.verdict, Verdict::kWarning);
    EXPECT_THAT(finding.text, HasSubstr("1.12.0"));
    EXPECT_THAT(finding.text, HasSubstr("1.10.8"));
    EXPECT_THAT(finding.remedy, HasSubstr("HDF5 1.10"));
}

TEST(FindingList, EndsWithTheFirstFailuresStatus) {
    const Finding doubt = doubtful("a", "b", "c");
    EXPECT_EQ(exit_status_of({fine("a", "b"), doubt}), 0);
    EXPECT_EQ(exit_status_of({doubt, wrong(ErrorCode::kData, "d", "e", "f"), wrong(ErrorCode::kDevice, "g", "h", "i")}),
              3);
}

TEST(FindingList, ShowsRemediesBelowWhatTheyAreFor) {
    EXPECT_EQ(render({fine("memory", "plenty"), wrong(ErrorCode::kDevice, "GPU", "none", "buy one")}),
              "ok    memory  plenty\nfail  GPU     none\n              -> buy one\n");
}

TEST(Cores, MoreRanksThanCoresAreDoubtful) {
    EXPECT_EQ(examine_cores(kHost, 8, 0).front().verdict, Verdict::kOk);
    EXPECT_EQ(examine_cores(kHost, 9, 0).front().verdict, Verdict::kWarning);
}

TEST(Cores, MoreThreadsThanCoresAreDoubtfulAndTheRightNumberIsNamed) {
    const Finding finding = examine_cores(kHost, 4, 3).front();
    EXPECT_EQ(finding.verdict, Verdict::kWarning);
    EXPECT_THAT(finding.remedy, HasSubstr("device.threads to 2"));
}

TEST(Memory, IsHeldAgainstTheNeed) {
    EXPECT_EQ(examine_memory(kHost, 1, 0).front().verdict, Verdict::kOk);
    EXPECT_EQ(examine_memory(kHost, 1, 5 * kGiB).front().verdict, Verdict::kOk);
    EXPECT_EQ(examine_memory(kHost, 1, 10 * kGiB - 1).front().verdict, Verdict::kWarning);
    EXPECT_EQ(examine_memory(kHost, 1, 11 * kGiB).front().verdict, Verdict::kFailure);
    EXPECT_EQ(exit_status_of(examine_memory(kHost, 1, 11 * kGiB)), 5);
}

TEST(Memory, LittleSharedMemoryMattersToSeveralRanksOnly) {
    HostFacts host = kHost;
    host.shared_memory_bytes = 8 << 20;
    EXPECT_EQ(examine_memory(host, 1, 0).size(), 1U);
    EXPECT_EQ(examine_memory(host, 2, 0).back().topic, "/dev/shm");
}

TEST(Output, AFolderThatCannotBeMadeIsAFailureOfInputAndOutput) {
    const Finding finding = examine_output("/proc/nowhere/out", 0);
    EXPECT_EQ(finding.verdict, Verdict::kFailure);
    EXPECT_EQ(exit_status_of({finding}), 4);
}

TEST(Output, NeedsRoomForTheCheckpoints) {
    const TemporaryFolder folder;
    EXPECT_EQ(examine_output(folder / "new/deep", 1 << 20).verdict, Verdict::kOk);
    EXPECT_EQ(examine_output(folder / "new/deep", std::int64_t{1} << 60).verdict, Verdict::kFailure);
    EXPECT_EQ(output_bytes(1000, 3), 1000 * (12 * 5 + 8));
}

TEST(Data, ThatAreNotThereAreAFailure) {
    const TemporaryFolder folder;
    const Finding finding = examine_data(folder.path());
    EXPECT_EQ(finding.verdict, Verdict::kFailure);
    EXPECT_EQ(exit_status_of({finding}), 4);
}

TEST(Host, TellsItsCoresAndMemory) {
    const HostFacts host = host_facts();
    EXPECT_GE(host.online_cores, 1);
    EXPECT_GE(host.usable_cores, 1);
    EXPECT_GT(host.memory_bytes, 1 << 20);
    EXPECT_LE(host.available_bytes, host.memory_bytes);
}

}  // namespace
}  // namespace duologue
