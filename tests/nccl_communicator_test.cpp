// NcclCommunicator on 1, 2 and 4 ranks with a GPU that is not there: what it asks of CUDA and NCCL, and in which order.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <set>
#include <string>
#include <vector>

#include "comm/nccl_entry.h"
#include "duologue/core/error.h"
#include "support/fake_gpu.h"
#include "support/mpi_main.h"

namespace duologue {
namespace {

using testing::ElementsAre;

// What this process has told NCCL.
std::string own_variable(const std::string& name) {
    for (char** entry = environ; *entry != nullptr; ++entry) {
        const std::string text(*entry);
        if (text.starts_with(name + "=")) return text.substr(name.size() + 1);
    }
    return "";
}

class NcclCommunicatorTest : public testing::Test {
   protected:
    void SetUp() override { fake_gpu() = {}; }
    void TearDown() override { fake_gpu() = {}; }
    static std::unique_ptr<Communicator> make() { return nccl::make_communicator(test_world(), {}); }
    static Tensor view(std::vector<float>& values) {
        return make_vector(values.data(), DataType::kF32, static_cast<std::int64_t>(values.size()));
    }
    const int ranks = test_world().size();
    const int rank = test_world().rank();
};

TEST_F(NcclCommunicatorTest, EveryCollectiveGivesWhatItsContractSays) {
    const auto communicator = make();
    std::vector<float> x(static_cast<std::size_t>(4 * ranks), static_cast<float>(rank + 1));
    const float sum = static_cast<float>(ranks * (ranks + 1)) / 2.0F;
    const Tensor own = view(x).column_range(4 * rank, 4);
    communicator->reduce_scatter_sum(own, view(x), "test scatter");
    communicator->all_gather(view(x), own, "test gather");
    communicator->barrier();
    communicator->join();
    EXPECT_EQ(x, std::vector<float>(x.size(), sum));
    communicator->all_reduce_sum(view(x), "test sum");
    communicator->join();
    EXPECT_EQ(x, std::vector<float>(x.size(), sum * static_cast<float>(ranks)));
    std::vector<std::uint16_t> halves(5, static_cast<std::uint16_t>(rank + 1));
    communicator->broadcast(make_vector(halves.data(), DataType::kBf16, 5), ranks - 1, "test broadcast");
    communicator->join();
    EXPECT_EQ(halves, std::vector<std::uint16_t>(5, static_cast<std::uint16_t>(ranks)));
    communicator->confirm();
}

TEST_F(NcclCommunicatorTest, ACollectiveFollowsTheComputeStreamAndOnlyJoinHoldsIt) {
    const auto communicator = make();
    EXPECT_THAT(fake_gpu().calls, testing::Contains("stream of priority -5"));
    std::vector<float> x(8, 1.0F);
    fake_gpu().calls.clear();
    communicator->all_reduce_sum(view(x), "test sum");
    EXPECT_THAT(fake_gpu().calls,
                ElementsAre("record on compute", "nccl waits", "all-reduce on nccl", "record on nccl"));
    fake_gpu().calls.clear();
    communicator->join();
    EXPECT_THAT(fake_gpu().calls, ElementsAre("record on nccl", "compute waits"));
    fake_gpu().calls.clear();
    communicator->join();
    EXPECT_THAT(fake_gpu().calls, testing::IsEmpty()) << "nothing was queued, so that there is nothing to wait for";
}

TEST_F(NcclCommunicatorTest, InACapturedGraphNoEventOfItsOwnIsRecorded) {
    const auto communicator = make();
    std::vector<float> x(8, 1.0F);
    fake_gpu().calls.clear();
    fake_gpu().capturing = true;
    communicator->all_reduce_sum(view(x), "test sum");
    communicator->join();
    EXPECT_THAT(fake_gpu().calls, ElementsAre("record on compute", "nccl waits", "all-reduce on nccl", "record on nccl",
                                              "compute waits"));
}

TEST_F(NcclCommunicatorTest, ItEndsInOrderWhenAllIsWell) {
    make().reset();
    EXPECT_EQ(fake_gpu().finalized, 1);
    EXPECT_EQ(fake_gpu().aborted, 0);
}

TEST_F(NcclCommunicatorTest, AnErrorOnItsWayAbortsWhatMayWaitForOthers) {
    try {
        const auto communicator = make();
        fail(ErrorCode::kData, "something else went wrong");
    } catch (const Error&) {
        EXPECT_EQ(fake_gpu().finalized, 0);
        EXPECT_EQ(fake_gpu().aborted, 1);
    }
}

TEST_F(NcclCommunicatorTest, RefusesWhatItCannotSum) {
    const auto communicator = make();
    std::vector<std::uint16_t> halves(4);
    EXPECT_THROW(communicator->all_reduce_sum(make_vector(halves.data(), DataType::kBf16, 4), "halves"), Error);
    std::vector<float> x(6);
    EXPECT_THROW(communicator->all_gather(view(x), make_vector(x.data(), DataType::kF32, 5), "x"), Error);
}

TEST_F(NcclCommunicatorTest, RanksThatShareAGpuAreHostsOfTheirOwnToNccl) {
    const auto communicator = nccl::make_communicator(test_world(), {.ranks_per_device = RanksPerDevice::kSeveral});
    const auto hosts = test_world().gather_all(own_variable("NCCL_HOSTID"));
    EXPECT_EQ(std::set<std::string>(hosts.begin(), hosts.end()).size(), static_cast<std::size_t>(ranks));
    EXPECT_EQ(own_variable("NCCL_NET"), "Socket");
    EXPECT_EQ(own_variable("NCCL_SOCKET_IFNAME"), "lo");
}

}  // namespace
}  // namespace duologue
