// Tiled micro-batches: their form, and that nothing that is appended counts.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "model/tiling.h"
#include "support/model_run.h"

namespace duologue {
namespace {

constexpr std::int64_t kVocabulary = 19;

std::int64_t length_of(const PackedTokens& packed, std::int64_t sequence) {
    const auto i = static_cast<std::size_t>(sequence);
    return packed.offsets.at(i + 1) - packed.offsets.at(i);
}

void expect_tiled(const PackedTokens& tiled, const PackedTokens& batch) {
    EXPECT_EQ(tiled.sequences() % kTileSequences, 0);
    EXPECT_EQ(tiled.rows() % kTileRows, 0);
    EXPECT_EQ(tiled.rows(), tiled.offsets.back());
    EXPECT_EQ(tiled.rows(), static_cast<std::int64_t>(tiled.positions.size()));
    for (std::int64_t s = 0; s < tiled.sequences(); ++s) {
        EXPECT_GE(length_of(tiled, s), 1);
        if (s >= batch.sequences()) {
            EXPECT_LE(length_of(tiled, s), kTileRows);
        }
    }
    EXPECT_EQ(length_of(tiled, tiled.sequences() - 1), kTileRows);
    EXPECT_TRUE(std::ranges::equal(batch.tokens, std::span(tiled.tokens).first(batch.tokens.size())));
    EXPECT_TRUE(std::ranges::equal(batch.offsets, std::span(tiled.offsets).first(batch.offsets.size())));
}

TEST(Tiling, EndsInAWholeTileAndStaysWithinTheCapacity) {
    for (std::int64_t sequences = 1; sequences < 200; sequences += 7) {
        const Batch batch = random_batch({.sequences = sequences, .max_length = 9, .vocabulary = kVocabulary});
        const Batch result = tiled(batch);
        expect_tiled(result.source, batch.source);
        expect_tiled(result.target, batch.target);
        EXPECT_EQ(result.source.sequences(), result.target.sequences());
        EXPECT_EQ(result.label_count, batch.label_count);
        EXPECT_EQ(static_cast<std::int64_t>(result.labels.size()), result.target.rows());
        EXPECT_TRUE(std::all_of(result.labels.begin() + batch.target.rows(), result.labels.end(),
                                [](std::int32_t label) { return label == -1; }));
        const BatchCapacity room = tiled(capacity_of(batch));
        EXPECT_LE(result.source.rows(), room.source_rows);
        EXPECT_LE(result.target.rows(), room.target_rows);
        EXPECT_LE(result.target.sequences(), room.sequences);
        EXPECT_GE(room.max_source_length, kTileRows);
    }
}

TEST(Tiling, NeighbouringSizesBecomeOneSize) {
    const Batch few = tiled(random_batch({.sequences = 66, .max_length = 1, .vocabulary = kVocabulary}));
    const Batch more = tiled(random_batch({.sequences = 120, .max_length = 1, .vocabulary = kVocabulary}));
    EXPECT_EQ(few.target.sequences(), more.target.sequences());
    EXPECT_EQ(few.target.rows(), more.target.rows());
}

TEST(Tiling, ManyRowsComeInFewSizesForLittleFilling) {
    for (const std::int64_t sequences : {300, 600, 1200, 2400, 4800}) {
        const Batch batch = random_batch({.sequences = sequences, .max_length = 30, .vocabulary = kVocabulary});
        const Batch result = tiled(batch);
        expect_tiled(result.source, batch.source);
        expect_tiled(result.target, batch.target);
        const BatchCapacity room = tiled(capacity_of(batch));
        EXPECT_LE(result.source.rows(), room.source_rows);
        EXPECT_LE(result.target.rows(), room.target_rows);
        EXPECT_LE(result.target.sequences(), room.sequences);
        const std::int64_t filling = result.target.rows() - batch.target.rows();
        EXPECT_LE(filling, batch.target.rows() / 32 + 2 * kTileRows + kTileSequences);
        if (batch.target.rows() > 1 << 14) {
            EXPECT_EQ(result.target.rows() % kMostRowMultiple, 0);
        }
    }
}

TEST(Tiling, ADecoderOnlyBatchKeepsNoSource) {
    const Batch result = tiled(random_batch({.vocabulary = kVocabulary, .kind = ModelKind::kDecoderOnly}));
    EXPECT_EQ(result.source.rows(), 0);
    EXPECT_EQ(tiled(BatchCapacity{.target_rows = 10, .sequences = 2, .max_target_length = 7}).source_rows, 0);
}

class TiledTraining : public testing::TestWithParam<ModelKind> {};

TEST_P(TiledTraining, GivesTheLossesAndGradientsOfThePlainBatch) {
    const std::unique_ptr<Backend> backend = make_cpu_backend(1);
    const ModelConfig config{.kind = GetParam(),
                             .width = 16,
                             .heads = 2,
                             .hidden = 24,
                             .encoder_layers = 2,
                             .decoder_layers = 2,
                             .dropout = 0.1};
    const Batch batch = random_batch({.sequences = 5, .vocabulary = kVocabulary, .kind = GetParam()});
    const Batch padded = tiled(batch);
    ModelRun run(*backend, config, kVocabulary, Precision::kF32, tiled(capacity_of(batch)));
    run.set_parameters(initial_values(run.model().parameters(), 4));
    const std::vector<float> losses = run.train(batch, 0.1F);
    const std::vector<float> gradients = run.gradients();
    run.zero_gradients();
    const std::vector<float> padded_losses = run.train(padded, 0.1F);
    const std::vector<float> padded_gradients = run.gradients();
    for (std::size_t i = 0; i < padded_losses.size(); ++i) {
        EXPECT_FLOAT_EQ(padded_losses[i], i < losses.size() ? losses[i] : 0.0F) << i;
    }
    const float largest =
        std::abs(*std::ranges::max_element(gradients, {}, [](float gradient) { return std::abs(gradient); }));
    ASSERT_GT(largest, 0.0F);
    for (std::size_t i = 0; i < gradients.size(); ++i) {
        EXPECT_NEAR(padded_gradients[i], gradients[i], 1e-5F * largest) << i;
    }
}

INSTANTIATE_TEST_SUITE_P(Models, TiledTraining, testing::Values(ModelKind::kEncoderDecoder, ModelKind::kDecoderOnly));

}  // namespace
}  // namespace duologue
