// NcclCommunicator on real GPUs, one rank or several: exact sums, order, and what reaches the compute stream.
//
// Needs a GPU, so that ctest does not run it; launch/gpu_check.sh does, with ranks that share one.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "duologue/backend/cuda_backend.h"
#include "duologue/comm/nccl_communicator.h"
#include "duologue/core/random.h"
#include "support/exact_sums.h"
#include "support/mpi_main.h"

namespace duologue {
namespace {

/// A vector of f32 in device memory.
class DeviceVector {
   public:
    DeviceVector(Backend& backend, const std::vector<float>& values)
        : backend_(backend), memory_(backend.allocate(bytes_of(values))), count_(std::ssize(values)) {
        if (count_ > 0) backend_.upload(all(), values.data());
    }
    [[nodiscard]] Tensor all() const { return make_vector(memory_.data(), DataType::kF32, count_); }
    [[nodiscard]] Tensor part(std::int64_t begin, std::int64_t count) const {
        return make_vector(static_cast<float*>(memory_.data()) + begin, DataType::kF32, count);
    }
    [[nodiscard]] std::vector<float> values() const {
        std::vector<float> values(static_cast<std::size_t>(count_));
        if (count_ > 0) backend_.download(values.data(), all());
        return values;
    }

   private:
    static std::int64_t bytes_of(const std::vector<float>& values) { return std::ssize(values) * 4; }
    Backend& backend_;
    DeviceBuffer memory_;
    std::int64_t count_;
};

class NcclSums : public testing::Test {
   protected:
    // Connecting takes longer than all sums: once for all tests.
    static void SetUpTestSuite() {
        World& world = test_world();
        const int gpus =
            std::max(cuda_device_count(), 1);  // the first is asked for where there is none, and that says so
        backend_ = make_cuda_backend({.device = world.local_rank() % gpus});
        communicator_ = make_nccl_communicator(
            world, {.compute = backend_->compute_stream(),
                    .ranks_per_device = world.local_size() > gpus ? RanksPerDevice::kSeveral : RanksPerDevice::kOne});
    }
    static void TearDownTestSuite() {
        communicator_.reset();
        backend_.reset();
    }
    static void finish() {
        communicator_->join();
        backend_->synchronize();
        communicator_->confirm();
    }
    inline static std::unique_ptr<CudaBackend> backend_;
    inline static std::unique_ptr<Communicator> communicator_;
    const int ranks_ = test_world().size();
    const int rank_ = test_world().rank();
};

TEST_F(NcclSums, AreExactAtEverySize) {
    for (const std::int64_t count : {1, 7, 1024, 100003, (1 << 20) + 5}) {
        const DeviceVector x(*backend_, exact_values(rank_, count));
        communicator_->all_reduce_sum(x.all(), "test sum");
        finish();
        ASSERT_EQ(x.values(), exact_sums(ranks_, count)) << count << " elements";
    }
}

TEST_F(NcclSums, AreTheSameBitsOnEveryRank) {
    RandomStream random(static_cast<std::uint64_t>(rank_));
    std::vector<float> values(54321);
    for (float& value : values) value = static_cast<float>(random.normal());
    const DeviceVector x(*backend_, values);
    communicator_->all_reduce_sum(x.all(), "test sum");
    finish();
    const std::vector<float> sums = x.values();
    const auto all = test_world().gather_all({reinterpret_cast<const char*>(sums.data()), sums.size() * sizeof(float)});
    for (const std::string& other : all) EXPECT_EQ(other, all[0]);
}

TEST_F(NcclSums, QueuedRangesOfOneBufferAreSummedOnce) {
    const DeviceVector x(*backend_, exact_values(rank_, 5000));
    for (std::int64_t begin = 0; begin < 5000; begin += 500) {
        communicator_->all_reduce_sum(x.part(begin, 500), "test range");
    }
    finish();
    EXPECT_EQ(x.values(), exact_sums(ranks_, 5000));
}

TEST_F(NcclSums, SeeWhatTheComputeStreamWroteBeforeAndAreSeenByWhatFollows) {
    const std::int64_t count = 200000;
    const DeviceVector x(*backend_, exact_values(rank_, count));
    const DeviceVector y(*backend_, std::vector<float>(static_cast<std::size_t>(count), 0.0F));
    for (int i = 0; i < 20; ++i) {
        backend_->copy(y.all(), x.all());
        communicator_->all_reduce_sum(y.all(), "test sum");
        communicator_->join();
        backend_->add(y.all(), y.all(), x.all());  // without waiting on the host
    }
    finish();
    std::vector<float> expected = exact_sums(ranks_, count);
    for (std::int64_t i = 0; i < count; ++i) expected[static_cast<std::size_t>(i)] += exact_value(rank_, i);
    EXPECT_EQ(y.values(), expected);
}

TEST_F(NcclSums, ScatteredAndGatheredAreTheWholeSum) {
    constexpr std::int64_t kPiece = 1236;
    const std::int64_t count = kPiece * ranks_;
    const DeviceVector x(*backend_, exact_values(rank_, count));
    const DeviceVector piece(*backend_, std::vector<float>(kPiece, -1.0F));
    const DeviceVector whole(*backend_, std::vector<float>(static_cast<std::size_t>(count), -1.0F));
    communicator_->reduce_scatter_sum(piece.all(), x.all(), "test scatter");
    communicator_->all_gather(whole.all(), piece.all(), "test gather");
    const Tensor own = x.part(rank_ * kPiece, kPiece);
    communicator_->reduce_scatter_sum(own, x.all(), "test scatter in place");
    communicator_->all_gather(x.all(), own, "test gather in place");
    finish();
    EXPECT_EQ(whole.values(), exact_sums(ranks_, count));
    EXPECT_EQ(x.values(), exact_sums(ranks_, count));
}

TEST_F(NcclSums, BroadcastBringsTheRootsValues) {
    const int root = ranks_ - 1;
    const DeviceVector x(*backend_, exact_values(rank_, 1000));
    communicator_->broadcast(x.all(), root, "test broadcast");
    communicator_->barrier();
    finish();
    EXPECT_EQ(x.values(), exact_values(root, 1000));
}

}  // namespace
}  // namespace duologue
