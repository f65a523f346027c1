// cuDNN's attention for every configuration of configs/, without a GPU: what it takes, how much memory it wants.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <iostream>
#include <vector>

#include "backend/cuda/buckets.h"
#include "backend/cuda/cudnn_attention.h"
#include "duologue/config/config.h"
#include "duologue/core/arena.h"
#include "duologue/data/batches.h"
#include "model/tiling.h"
#include "support/cards.h"

namespace duologue {
namespace {

using cuda::AttentionDescription;
using cuda::AttentionPass;

struct NamedConfig {
    std::string name;
    Config config;
};

std::vector<NamedConfig> configurations() {
    std::vector<NamedConfig> all;
    for (const auto& entry : std::filesystem::directory_iterator(DUOLOGUE_CONFIGS)) {
        const bool describes_a_job = entry.path().filename().string().starts_with("sagemaker");
        if (entry.path().extension() != ".json" || describes_a_job) continue;
        all.push_back({.name = entry.path().filename().string(), .config = {}});
        read_config_file(all.back().config, entry.path().string());
    }
    return all;
}

/// One of the three attentions of a model; rows and sequences of both sides.
struct AttentionSite {
    std::string name;
    Attention operation;
};

Offsets offsets_of(std::int64_t sequences, std::int64_t max_length, Packing packing) {
    return {.values = {}, .sequences = sequences, .max_length = max_length, .packing = packing};
}

// The operands of self-attention are columns of one product, those of cross-attention of two.
std::vector<AttentionSite> sites_of(const Config& config, const BatchCapacity& size, Packing packing) {
    const std::int64_t width = config.model.width;
    Arena arena;
    const auto self = [&](std::int64_t rows, std::int64_t max_length, Causal causal) {
        const Tensor qkv = arena.allocate(DataType::kBf16, rows, 3 * width);
        const Offsets offsets = offsets_of(size.sequences, max_length, packing);
        return Attention{.q = qkv.column_range(0, width),
                         .k = qkv.column_range(width, width),
                         .v = qkv.column_range(2 * width, width),
                         .q_offsets = offsets,
                         .kv_offsets = offsets,
                         .causal = causal,
                         .heads = config.model.heads,
                         .scale = 0.125F};
    };
    std::vector<AttentionSite> sites{{"decoder", self(size.target_rows, size.max_target_length, Causal::kYes)}};
    if (size.source_rows == 0) return sites;
    sites.push_back({"encoder", self(size.source_rows, size.max_source_length, Causal::kNo)});
    const Tensor kv = arena.allocate(DataType::kBf16, size.source_rows, 2 * width);
    Attention cross = sites.front().operation;
    cross.q = arena.allocate(DataType::kBf16, size.target_rows, width);
    cross.k = kv.column_range(0, width);
    cross.v = kv.column_range(width, width);
    cross.kv_offsets = offsets_of(size.sequences, size.max_source_length, packing);
    cross.causal = Causal::kNo;
    sites.push_back({"cross", cross});
    return sites;
}

BatchCapacity capacity_of(const Config& config) { return batch_capacity(config.data, config.model.kind); }

cuda::PlanReport report_of(const AttentionDescription& description, const Card& card) {
    return cuda::check_plan(description, card.capability, device_properties(card));
}

class CudnnPlans : public testing::TestWithParam<Card> {
   protected:
    static void expect_taken(const AttentionDescription& description, const std::string& name) {
        const cuda::PlanReport report = report_of(description, GetParam());
        EXPECT_EQ(report.refusal, "") << name << ": " << told(description);
        std::cout << GetParam().name << "  " << name << "  " << told(description) << "  workspace "
                  << report.workspace_bytes << " bytes\n";
    }

    template <class Use>
    static void for_each_site(const Use& use) {
        const std::vector<NamedConfig> all = configurations();
        ASSERT_FALSE(all.empty());
        for (const auto& [name, config] : all) {
            for (const auto& [site, operation] : sites_of(config, tiled(capacity_of(config)), Packing::kTiled)) {
                use(name + " " + site, operation);
            }
        }
    }
};

TEST_P(CudnnPlans, TakeTrainingOfEveryConfigurationWithAndWithoutDropout) {
    for_each_site([&](const std::string& name, Attention operation) {
        for (const float dropout : {0.0F, 0.1F}) {
            operation.dropout.probability = dropout;
            for (const AttentionPass pass : {AttentionPass::kForwardWithStats, AttentionPass::kBackward}) {
                expect_taken(describe(operation, pass, Deterministic::kNo), name);
            }
        }
    });
}

// Ampere's kernels have no fixed order on packed sequences: there device.deterministic goes with device.attention=own.
TEST_P(CudnnPlans, AreDeterministicOnHopperOnly) {
    for_each_site([&](const std::string& name, Attention operation) {
        for (const float dropout : {0.0F, 0.1F}) {
            operation.dropout.probability = dropout;
            const auto description = describe(operation, AttentionPass::kBackward, Deterministic::kYes);
            if (GetParam().capability >= 90) {
                expect_taken(description, name);
            } else {
                EXPECT_NE(report_of(description, GetParam()).refusal, "") << told(description);
            }
        }
    });
}

TEST_P(CudnnPlans, TakeEvaluationAndTheFirstPassOfAChat) {
    for (const auto& [name, config] : configurations()) {
        BatchCapacity one = capacity_of(config);
        one.source_rows = one.max_source_length;
        one.target_rows = one.max_target_length;
        one.sequences = 1;
        for (const auto& [site, operation] : sites_of(config, tiled(capacity_of(config)), Packing::kTiled)) {
            expect_taken(describe(operation, AttentionPass::kForward, Deterministic::kNo), name + " " + site);
        }
        for (const auto& [site, operation] : sites_of(config, one, Packing::kPlain)) {
            expect_taken(describe(operation, AttentionPass::kForward, Deterministic::kNo), name + " chat " + site);
        }
    }
}

// The arena is sized with the plans of the capacity.
TEST_P(CudnnPlans, OfSmallerBatchesNeedNoMoreMemory) {
    for (const auto& [name, config] : configurations()) {
        const BatchCapacity most = capacity_of(config);
        for (const std::int64_t parts : {2, 5}) {
            BatchCapacity part = most;
            part.source_rows = std::max(most.source_rows / parts, most.max_source_length);
            part.target_rows = std::max(most.target_rows / parts, most.max_target_length);
            part.sequences = std::max<std::int64_t>(most.sequences / parts, 1);
            const auto whole = sites_of(config, tiled(most), Packing::kTiled);
            const auto smaller = sites_of(config, tiled(part), Packing::kTiled);
            for (std::size_t i = 0; i < whole.size(); ++i) {
                const auto bytes = [&](const Attention& operation) {
                    return report_of(describe(operation, AttentionPass::kBackward, Deterministic::kNo), GetParam())
                        .workspace_bytes;
                };
                EXPECT_LE(bytes(smaller[i].operation), bytes(whole[i].operation)) << name << " " << whole[i].name;
            }
        }
    }
}

TEST_P(CudnnPlans, TakeEveryWidthOfHeadsThatIsPromised) {
    const std::int64_t widest = GetParam().capability >= 90 ? 256 : 128;
    for (std::int64_t columns = cuda::kCudnnHeadMultiple; columns <= widest; columns += cuda::kCudnnHeadMultiple) {
        Config config;
        config.model.width = 2 * columns;
        config.model.heads = 2;
        const BatchCapacity size{.target_rows = 512, .sequences = 8, .max_target_length = 100};
        for (const auto& [site, operation] : sites_of(config, tiled(size), Packing::kTiled)) {
            expect_taken(describe(operation, AttentionPass::kForwardWithStats, Deterministic::kNo), site);
            expect_taken(describe(operation, AttentionPass::kBackward, Deterministic::kNo), site);
        }
    }
}

TEST_P(CudnnPlans, CanWriteOutTheMaskOfDropout) {
    const BatchCapacity size{.target_rows = 512, .sequences = 8, .max_target_length = 100};
    for (const auto& [site, operation] : sites_of(Config{}, tiled(size), Packing::kTiled)) {
        for (const AttentionPass pass : {AttentionPass::kForwardWithStats, AttentionPass::kBackward}) {
            AttentionDescription description = describe(operation, pass, Deterministic::kNo);
            description.dropout = 0.1F;
            description.mask_dump = cuda::MaskDump::kYes;
            expect_taken(description, site + " with its mask");
        }
    }
}

TEST_P(CudnnPlans, ARefusalSaysWhy) {
    AttentionDescription description;
    description.head_columns = 12;
    EXPECT_NE(report_of(description, GetParam()).refusal, "");
}

INSTANTIATE_TEST_SUITE_P(Cards, CudnnPlans, testing::Values(kA100, kH200),
                         [](const testing::TestParamInfo<Card>& card) { return std::string(card.param.name); });

TEST(CudnnShapes, PlainPackingGetsARowForEverySlotAndAWholeTileBehind) {
    Attention operation;
    operation.q = make_tensor(nullptr, DataType::kBf16, 40, 64);
    operation.k = make_tensor(nullptr, DataType::kBf16, 0, 64);
    operation.q_offsets = operation.kv_offsets = offsets_of(3, 33, Packing::kPlain);
    const cuda::CudnnShape shape = cuda::cudnn_shape(operation);
    EXPECT_EQ(shape.packing, Packing::kPlain);
    EXPECT_GE(shape.slots, 3);
    EXPECT_GE(shape.q_rows, 40 + shape.slots + kTileRows);
    EXPECT_GE(shape.kv_rows, shape.slots + kTileRows);
}

TEST(CudnnShapes, OneSidePlainMakesTheWholeCallPlain) {
    Attention operation;
    operation.q = operation.k = make_tensor(nullptr, DataType::kBf16, 256, 64);
    operation.q_offsets = offsets_of(64, 128, Packing::kTiled);
    operation.kv_offsets = offsets_of(64, 128, Packing::kTiled);
    EXPECT_EQ(cuda::cudnn_shape(operation).packing, Packing::kTiled);
    EXPECT_EQ(cuda::cudnn_shape(operation).q_rows, 256);
    operation.kv_offsets.packing = Packing::kPlain;
    EXPECT_EQ(cuda::cudnn_shape(operation).packing, Packing::kPlain);
}

TEST(CudnnShapes, LengthsAreWholeTiles) {
    for (const std::int64_t length : {0, 1, 64, 128, 129, 192, 257}) {
        Attention operation;
        operation.q = operation.k = make_tensor(nullptr, DataType::kBf16, 300, 64);
        operation.q_offsets = operation.kv_offsets = offsets_of(2, length, Packing::kPlain);
        const AttentionDescription description = describe(operation, AttentionPass::kBackward, Deterministic::kNo);
        EXPECT_EQ(description.max_kv_length % 128, 0);
        EXPECT_GE(description.max_kv_length, std::max<std::int64_t>(length, 1));
        EXPECT_LT(description.max_kv_length, length + 128 + 1);
        EXPECT_GE(description.most_q_rows, cuda::cudnn_shape(operation).q_rows);
    }
}

TEST(Buckets, AreAtMostAnEighthLongerThanWhatTheyHold) {
    std::int64_t last = 0;
    for (std::int64_t length = 1; length < 70000; ++length) {
        const std::int64_t bucket = cuda::bucket_of(length);
        ASSERT_GE(bucket, length);
        ASSERT_LE(bucket - length, length / 8);
        ASSERT_GE(bucket, last);
        ASSERT_EQ(cuda::bucket_of(bucket), bucket);
        last = bucket;
    }
    EXPECT_EQ(cuda::bucket_of(0), 0);
}

}  // namespace
}  // namespace duologue
