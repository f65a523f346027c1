// UploadRing over streams that are not there: right whatever their pace, and the host goes on.
#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "backend/cuda/upload_ring.h"
#include "emulated_gpu/streams.h"

namespace duologue {
namespace {

using cuda::UploadRing;
using emulated_gpu::gpu;
using emulated_gpu::Pace;

// The pace of the compute stream and of the ring's own.
class UploadRingTest : public testing::TestWithParam<std::pair<Pace, Pace>> {
   protected:
    void SetUp() override {
        gpu() = {.pace = GetParam().first};
        compute_ = cuda::make_stream();
        gpu().pace = GetParam().second;
        ring_.emplace(compute_.get());
    }

    static std::vector<std::int32_t> numbers(std::size_t count, std::int32_t first) {
        std::vector<std::int32_t> values(count);
        std::iota(values.begin(), values.end(), first);
        return values;
    }
    void upload(std::vector<std::int32_t>& to, const std::vector<std::int32_t>& from) {
        ring_->upload(to.data(), from.data(), static_cast<std::int64_t>(from.size() * sizeof(std::int32_t)));
    }

    cuda::Stream compute_;
    std::optional<UploadRing> ring_;
};

TEST_P(UploadRingTest, BringsWhatTheHostHadWhenItReturned) {
    std::vector<std::int32_t> to(300000);
    std::vector<std::int32_t> host = numbers(to.size(), 5);
    upload(to, host);
    host.assign(host.size(), -1);
    cudaStreamSynchronize(compute_.get());
    EXPECT_EQ(to, numbers(to.size(), 5));
}

TEST_P(UploadRingTest, OverwritesOnlyWhatTheComputeStreamIsDoneWith) {
    std::vector<std::int32_t> to(1000);
    std::vector<std::int32_t> seen;
    for (int i = 0; i < 5; ++i) {
        upload(to, numbers(to.size(), 1000 * i));
        emulated_gpu::queue_work(compute_.get(), [&] { seen.insert(seen.end(), to.begin(), to.end()); });
    }
    cudaStreamSynchronize(compute_.get());
    EXPECT_EQ(seen, numbers(5000, 0));
}

TEST_P(UploadRingTest, LetsTheHostGoOnUntilItIsAWholeRingAhead) {
    std::vector<std::int32_t> to(1000);
    for (int i = 0; i < 64; ++i) upload(to, numbers(to.size(), i));
    EXPECT_EQ(gpu().host_waits, 0);
    cudaStreamSynchronize(compute_.get());
    EXPECT_EQ(to.front(), 63);
}

TEST_P(UploadRingTest, SlotsThatAreUsedAgainKeepTheirOrder) {
    std::vector<std::int32_t> to(1000);
    std::vector<std::int32_t> seen;
    for (int i = 0; i < 200; ++i) {
        upload(to, numbers(to.size(), i));
        emulated_gpu::queue_work(compute_.get(), [&] { seen.push_back(to.front()); });
    }
    cudaStreamSynchronize(compute_.get());
    EXPECT_EQ(seen, numbers(200, 0));
}

INSTANTIATE_TEST_SUITE_P(Paces, UploadRingTest,
                         testing::Values(std::pair(Pace::kLate, Pace::kLate), std::pair(Pace::kLate, Pace::kAtOnce),
                                         std::pair(Pace::kAtOnce, Pace::kLate),
                                         std::pair(Pace::kAtOnce, Pace::kAtOnce)));

}  // namespace
}  // namespace duologue
