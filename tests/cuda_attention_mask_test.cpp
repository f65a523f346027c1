// On a GPU: the mask that cuDNN's dropout draws, written out by both passes.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "backend/cuda/check.h"
#include "backend/cuda/cudnn_attention.h"
#include "duologue/backend/cuda_backend.h"
#include "duologue/core/random.h"

namespace duologue {
namespace {

constexpr float kProbability = 0.25F;
constexpr std::int64_t kWorkspaceBytes = std::int64_t{64} << 20;

// One attention over tiled sequences on its own stream, all memory from one back end.
class AttentionMask : public testing::Test {
   protected:
    void SetUp() override {
        cudaDeviceProp card{};
        cuda::check(cudaGetDeviceProperties(&card, 0), "asking for the card");
        capability_ = 10 * card.major + card.minor;
        launch_ = {.stream = static_cast<cudaStream_t>(backend_->compute_stream().stream),
                   .multiprocessors = card.multiProcessorCount,
                   .workspace = {.data = workspace_.data(), .bytes = kWorkspaceBytes},
                   .random_key = static_cast<std::uint64_t*>(key_.data())};
        backend_->upload(make_vector(offsets_.data(), DataType::kI32, 4), kOffsets.data());
        for (const DeviceBuffer* buffer : {&qkv_, &dy_}) fill(*buffer);
    }

    void fill(const DeviceBuffer& buffer) {
        std::vector<Bfloat16> values(static_cast<std::size_t>(buffer.bytes() / 2));
        RandomStream stream(5);
        for (Bfloat16& value : values) value = Bfloat16(static_cast<float>(stream.normal()));
        backend_->upload(make_vector(buffer.data(), DataType::kBf16, buffer.bytes() / 2), values.data());
    }

    [[nodiscard]] Attention operation(std::uint64_t site) const {
        const Tensor qkv = make_tensor(qkv_.data(), DataType::kBf16, kRows, 3 * kWidth);
        const Offsets offsets{.values = make_vector(offsets_.data(), DataType::kI32, 4),
                              .sequences = 3,
                              .max_length = 128,
                              .packing = Packing::kTiled};
        return {.q = qkv.column_range(0, kWidth),
                .k = qkv.column_range(kWidth, kWidth),
                .v = qkv.column_range(2 * kWidth, kWidth),
                .q_offsets = offsets,
                .kv_offsets = offsets,
                .causal = Causal::kYes,
                .heads = kHeads,
                .scale = 0.125F,
                .dropout = {.probability = kProbability, .site = site}};
    }

    [[nodiscard]] std::vector<float> dumped(const DeviceBuffer& dump) {
        std::vector<float> mask(static_cast<std::size_t>(dump.bytes()) / sizeof(float));
        backend_->download(mask.data(), make_vector(dump.data(), DataType::kF32, std::ssize(mask)));
        return mask;
    }

    [[nodiscard]] Tensor rows(const DeviceBuffer& buffer) const {
        return make_tensor(buffer.data(), DataType::kBf16, kRows, kWidth);
    }
    [[nodiscard]] Tensor mask_of(const DeviceBuffer& dump) const {
        return make_tensor(dump.data(), DataType::kF32, 3 * kHeads * 128, 128);
    }

    std::vector<float> forward_mask(std::uint64_t site) {
        attention().forward(rows(y_), stats(), operation(site), mask_of(forward_dump_));
        return dumped(forward_dump_);
    }
    std::vector<float> backward_mask(std::uint64_t site) {
        const DeviceBuffer scratch = backend_->allocate(attention().scratch_bytes(operation(site)) + (64 << 20));
        attention().backward(
            {.dq = rows(dq_), .dk = rows(dk_), .dv = rows(dv_), .dy = rows(dy_), .y = rows(y_), .stats = stats()},
            make_vector(scratch.data(), DataType::kU8, scratch.bytes()), operation(site), mask_of(backward_dump_));
        return dumped(backward_dump_);
    }
    [[nodiscard]] Tensor stats() const { return make_tensor(stats_.data(), DataType::kF32, kRows, kHeads); }
    cuda::CudnnAttention& attention() {
        if (!attention_) {
            attention_ = std::make_unique<cuda::CudnnAttention>(launch_, capability_, Deterministic::kNo);
        }
        return *attention_;
    }

    static constexpr std::int64_t kHeads = 2;
    static constexpr std::int64_t kWidth = 128;
    static constexpr std::int64_t kRows = 5 + 90 + 128;
    static constexpr std::array<std::int32_t, 4> kOffsets{0, 5, 95, kRows};

    std::unique_ptr<CudaBackend> backend_ = make_cuda_backend({.attention = AttentionChoice::kOwn});
    int capability_ = 0;
    DeviceBuffer workspace_ = backend_->allocate(kWorkspaceBytes);
    DeviceBuffer key_ = backend_->allocate(sizeof(std::uint64_t));
    DeviceBuffer offsets_ = backend_->allocate(sizeof kOffsets);
    DeviceBuffer qkv_ = backend_->allocate(3 * kRows * kWidth * 2);
    DeviceBuffer dy_ = backend_->allocate(kRows * kWidth * 2);
    DeviceBuffer y_ = backend_->allocate(kRows * kWidth * 2);
    DeviceBuffer dq_ = backend_->allocate(kRows * kWidth * 2);
    DeviceBuffer dk_ = backend_->allocate(kRows * kWidth * 2);
    DeviceBuffer dv_ = backend_->allocate(kRows * kWidth * 2);
    DeviceBuffer stats_ = backend_->allocate(kRows * kHeads * 4);
    DeviceBuffer forward_dump_ = backend_->allocate(3 * kHeads * 128 * 128 * 4);
    DeviceBuffer backward_dump_ = backend_->allocate(3 * kHeads * 128 * 128 * 4);
    cuda::Launch launch_;
    std::unique_ptr<cuda::CudnnAttention> attention_;
};

TEST_F(AttentionMask, IsTheSameInBothPasses) {
    const std::vector<float> forward = forward_mask(7);
    EXPECT_EQ(backward_mask(7), forward);
    double kept = 0.0;
    for (const float value : forward) kept += value > 0.0F ? 1.0 : 0.0;
    EXPECT_GT(kept, 0.0);
    EXPECT_LT(kept, static_cast<double>(forward.size()));
}

TEST_F(AttentionMask, IsAnotherAtAnotherSite) { EXPECT_NE(forward_mask(7), forward_mask(8)); }

}  // namespace
}  // namespace duologue
