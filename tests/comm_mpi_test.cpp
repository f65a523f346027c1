// Collectives on 1, 2 and 4 ranks: exact sums, order, overlap, agreement on strings.
#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <vector>

#include "duologue/comm/nccl_communicator.h"
#include "duologue/core/error.h"
#include "duologue/core/random.h"
#include "support/exact_sums.h"
#include "support/mpi_main.h"

namespace duologue {
namespace {

Tensor view(std::vector<float>& values) {
    return make_vector(values.data(), DataType::kF32, static_cast<std::int64_t>(values.size()));
}

TEST(MpiCommunicator, SumsAreExactAtEverySize) {
    World& world = test_world();
    const auto communicator = make_mpi_communicator(world);
    for (const std::int64_t count : {0, 1, 7, 1024, 100003, (1 << 24) + 5}) {
        std::vector<float> x = exact_values(world.rank(), count);
        communicator->all_reduce_sum(view(x), "test sum");
        communicator->join();
        const std::int64_t stride = count > 1000000 ? 9973 : 1;
        for (std::int64_t i = 0; i < count; i += stride) {
            ASSERT_EQ(x[static_cast<std::size_t>(i)], exact_sum(world.size(), i)) << "element " << i << " of " << count;
        }
    }
}

TEST(MpiCommunicator, EveryRankHoldsTheSameBits) {
    World& world = test_world();
    const auto communicator = make_mpi_communicator(world);
    RandomStream random(static_cast<std::uint64_t>(world.rank()));
    std::vector<float> x(54321);
    for (float& value : x) value = static_cast<float>(random.normal());
    communicator->all_reduce_sum(view(x), "test sum");
    communicator->join();
    const auto bits = world.gather_all({reinterpret_cast<const char*>(x.data()), x.size() * sizeof(float)});
    for (const std::string& other : bits) EXPECT_EQ(other, bits[0]);
}

TEST(MpiCommunicator, QueuedRangesOfOneBufferAreSummedOnce) {
    World& world = test_world();
    const auto communicator = make_mpi_communicator(world);
    std::vector<float> x = exact_values(world.rank(), 5000);
    for (std::int64_t begin = 0; begin < 5000; begin += 500) {
        communicator->all_reduce_sum(make_vector(x.data() + begin, DataType::kF32, 500), "test range");
    }
    communicator->join();
    for (std::int64_t i = 0; i < 5000; ++i) ASSERT_EQ(x[static_cast<std::size_t>(i)], exact_sum(world.size(), i));
}

TEST(MpiCommunicator, ReduceScatterThenAllGatherIsAllReduce) {
    World& world = test_world();
    const auto communicator = make_mpi_communicator(world);
    constexpr std::int64_t kPiece = 1237;
    std::vector<float> x = exact_values(world.rank(), kPiece * world.size());
    std::vector<float> piece(kPiece);
    std::vector<float> whole(x.size());
    communicator->reduce_scatter_sum(view(piece), view(x), "test scatter");
    communicator->all_gather(view(whole), view(piece), "test gather");
    const Tensor own = make_vector(x.data() + world.rank() * kPiece, DataType::kF32, kPiece);
    communicator->reduce_scatter_sum(own, view(x), "test scatter in place");
    communicator->all_gather(view(x), own, "test gather in place");
    communicator->join();
    for (std::int64_t i = 0; i < kPiece * world.size(); ++i) {
        ASSERT_EQ(whole[static_cast<std::size_t>(i)], exact_sum(world.size(), i));
        ASSERT_EQ(x[static_cast<std::size_t>(i)], exact_sum(world.size(), i));
    }
}

TEST(MpiCommunicator, WhatIsOnlyMovedMayBeOfAnyType) {
    World& world = test_world();
    const auto communicator = make_mpi_communicator(world);
    std::vector<std::uint16_t> all(static_cast<std::size_t>(world.size()) * 3, 0);
    std::vector<std::uint16_t> mine(3, static_cast<std::uint16_t>(world.rank() + 1));
    communicator->all_gather(make_vector(all.data(), DataType::kBf16, 3 * world.size()),
                             make_vector(mine.data(), DataType::kBf16, 3), "test gather");
    communicator->broadcast(make_vector(mine.data(), DataType::kBf16, 3), 0, "test broadcast");
    communicator->join();
    for (std::size_t i = 0; i < all.size(); ++i) EXPECT_EQ(all[i], i / 3 + 1);
    EXPECT_EQ(mine, std::vector<std::uint16_t>(3, 1));
}

TEST(MpiCommunicator, BroadcastBringsTheRootsValues) {
    World& world = test_world();
    const auto communicator = make_mpi_communicator(world);
    const int root = world.size() - 1;
    std::vector<float> x = exact_values(world.rank(), 1000);
    communicator->broadcast(view(x), root, "test broadcast");
    communicator->barrier();
    communicator->join();
    EXPECT_EQ(x, exact_values(root, 1000));
}

TEST(MpiCommunicator, RefusesWhatItCannotSum) {
    const auto communicator = make_mpi_communicator(test_world());
    std::vector<std::int32_t> integers(4);
    EXPECT_THROW(communicator->all_reduce_sum(make_vector(integers.data(), DataType::kI32, 4), "integers"), Error);
    std::vector<float> floats(6);
    EXPECT_THROW(communicator->all_reduce_sum(make_tensor(floats.data(), DataType::kF32, 2, 3).column_range(0, 2), "x"),
                 Error);
    EXPECT_THROW(communicator->all_gather(view(floats), make_vector(floats.data(), DataType::kF32, 5), "x"), Error);
}

TEST(World, GathersStringsOfDifferentLengthsByRank) {
    World& world = test_world();
    const auto all = world.gather_all(std::string(static_cast<std::size_t>(world.rank()) * 3, 'x') + "\0y");
    ASSERT_EQ(static_cast<int>(all.size()), world.size());
    for (int rank = 0; rank < world.size(); ++rank) {
        EXPECT_EQ(all[static_cast<std::size_t>(rank)], std::string(static_cast<std::size_t>(rank) * 3, 'x'));
    }
    EXPECT_EQ(world.broadcast("from " + std::to_string(world.rank())), "from 0");
}

TEST(World, CountsTheRanksOfThisHost) {
    World& world = test_world();
    EXPECT_EQ(world.local_size(), world.size());
    EXPECT_EQ(world.local_rank(), world.rank());
    EXPECT_FALSE(world.host().empty());
}

TEST(Nccl, AGpuThatIsNotThereIsADeviceErrorInEveryBuild) {
    try {
        (void)make_nccl_communicator(test_world(), {.compute = {.device = 1000, .stream = nullptr}});
        FAIL() << "GPU 1000 is there";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kDevice) << error.what();
    }
}

}  // namespace
}  // namespace duologue
