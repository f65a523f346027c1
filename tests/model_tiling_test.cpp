// Tiled micro-batches: their form, and that nothing that is appended counts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "model/head.h"
#include "model/tiling.h"
#include "support/model_run.h"
#include "support/repeating_backend.h"

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
        const Batch result = tiled(batch, capacity_of(batch));
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

// Sequences of nearly equal lengths, on both sides as many.
Batch even_batch(std::int64_t source_rows, std::int64_t target_rows, std::int64_t sequences) {
    const auto side = [&](std::int64_t rows) {
        PackedTokens packed{.tokens = std::vector<std::int32_t>(static_cast<std::size_t>(rows), 1),
                            .positions = std::vector<std::int32_t>(static_cast<std::size_t>(rows), 0)};
        for (std::int64_t s = 1; s <= sequences; ++s) {
            packed.offsets.push_back(static_cast<std::int32_t>(rows * s / sequences));
        }
        return packed;
    };
    return {.source = side(source_rows),
            .target = side(target_rows),
            .labels = std::vector<std::int32_t>(static_cast<std::size_t>(target_rows), 1),
            .label_count = target_rows};
}

constexpr BatchCapacity kLarge{
    .source_rows = 25000, .target_rows = 25000, .sequences = 6250, .max_source_length = 256, .max_target_length = 256};

TEST(Tiling, NeighbouringSizesBecomeOneSize) {
    const Batch few = tiled(random_batch({.sequences = 70, .max_length = 1, .vocabulary = kVocabulary}), kLarge);
    const Batch more = tiled(random_batch({.sequences = 110, .max_length = 1, .vocabulary = kVocabulary}), kLarge);
    EXPECT_EQ(few.target.sequences(), more.target.sequences());
    EXPECT_EQ(few.target.rows(), more.target.rows());
}

TEST(Tiling, NearlyFullSidesAreAsLongAsFullOnes) {
    const BatchCapacity room = tiled(kLarge);
    for (const std::int64_t length : {37, 38, 39, 40}) {
        const Batch batch = even_batch(620 * (length - 2), 620 * length, 620);
        const Batch result = tiled(batch, kLarge);
        expect_tiled(result.source, batch.source);
        expect_tiled(result.target, batch.target);
        EXPECT_EQ(result.target.rows(), room.target_rows);
        EXPECT_EQ(result.target.sequences() % kMostSequenceMultiple, 0);
        EXPECT_EQ(result.source.sequences(), result.target.sequences());
        if (length >= 38) {
            EXPECT_EQ(result.source.rows(), room.source_rows);
        }
    }
}

TEST(Tiling, RowsFarFromTheCapacityComeInFewSizesForLittleFilling) {
    for (const std::int64_t sequences : {300, 600, 1200}) {
        const Batch batch = random_batch({.sequences = sequences, .max_length = 30, .vocabulary = kVocabulary});
        const Batch result = tiled(batch, kLarge);
        expect_tiled(result.source, batch.source);
        expect_tiled(result.target, batch.target);
        const std::int64_t filling = result.target.rows() - batch.target.rows();
        EXPECT_LE(filling, batch.target.rows() / 32 + 2 * kTileRows + 2 * kMostSequenceMultiple);
        if (batch.target.rows() > 1 << 14) {
            EXPECT_EQ(result.target.rows() % kMostRowMultiple, 0);
        }
    }
}

// So few sequences to append that each needs all the rows that one may have.
TEST(Tiling, WhatIsMissingFitsIntoTheFewestSequences) {
    BatchCapacity capacity = kLarge;
    capacity.source_rows = 0;
    for (std::int64_t rows = 16200; rows < 16300; ++rows) {
        const Batch batch = even_batch(0, rows, 315);
        expect_tiled(tiled(batch, capacity).target, batch.target);
    }
}

// Of every number of rows and sequences that a capacity allows.
TEST(Tiling, NoBatchIsLargerThanTheTiledCapacity) {
    for (const std::int64_t rows : {100, 1000, 1024, 5000}) {
        const BatchCapacity capacity{.source_rows = rows,
                                     .target_rows = rows,
                                     .sequences = rows / 4,
                                     .max_source_length = rows,
                                     .max_target_length = rows};
        const BatchCapacity room = tiled(capacity);
        for (std::int64_t target = 1; target <= rows; target += rows / 50) {
            for (const std::int64_t sequences : {std::int64_t{1}, rows / 40, rows / 4}) {
                if (sequences > target) continue;
                const Batch batch = even_batch(rows - target / 2, target, sequences);
                const Batch result = tiled(batch, capacity);
                ASSERT_LE(result.source.rows(), room.source_rows);
                ASSERT_LE(result.target.rows(), room.target_rows);
                ASSERT_LE(result.target.sequences(), room.sequences);
                ASSERT_EQ(result.source.sequences(), result.target.sequences());
                expect_tiled(result.source, batch.source);
                expect_tiled(result.target, batch.target);
            }
        }
    }
}

TEST(Tiling, ADecoderOnlyBatchKeepsNoSource) {
    const Batch batch = random_batch({.vocabulary = kVocabulary, .kind = ModelKind::kDecoderOnly});
    const Batch result = tiled(batch, capacity_of(batch));
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
    const Batch padded = tiled(batch, capacity_of(batch));
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

// So many words that a piece of logits has 105 rows where rows are packed plainly, and one tile where they are tiled.
TEST(LogitsInPieces, GiveTheSameLossesAndGradientsHoweverTheyAreCut) {
    constexpr std::int64_t kManyWords = 40000;
    const ModelConfig config{.width = 8, .heads = 2, .hidden = 8, .encoder_layers = 1, .decoder_layers = 1};
    const Batch batch = random_batch({.sequences = 40, .max_length = 20, .vocabulary = kManyWords});
    RepeatingCounts counts;
    const std::unique_ptr<Backend> plain = make_cpu_backend(1);
    const std::unique_ptr<Backend> tiling = make_repeating_backend(make_cpu_backend(1), Repeats::kNo, counts);
    std::vector<float> losses[2];
    std::vector<float> gradients[2];
    for (std::size_t i = 0; i < 2; ++i) {
        Backend& backend = i == 0 ? *plain : *tiling;
        ASSERT_GT(batch.target.rows(), 2 * most_logits_rows(backend, kManyWords, DataType::kF32));
        ModelRun run(backend, config, kManyWords, Precision::kF32, capacity_of(batch));
        run.set_parameters(initial_values(run.model().parameters(), 4));
        losses[i] = run.train(batch, 0.1F);
        gradients[i] = run.gradients();
    }
    EXPECT_EQ(losses[0].size(), static_cast<std::size_t>(batch.target.rows()));
    EXPECT_THAT(losses[1], testing::Pointwise(testing::FloatNear(1e-4F), losses[0]));
    EXPECT_THAT(gradients[1], testing::Pointwise(testing::FloatNear(1e-4F), gradients[0]));
}

INSTANTIATE_TEST_SUITE_P(Models, TiledTraining, testing::Values(ModelKind::kEncoderDecoder, ModelKind::kDecoderOnly));

}  // namespace
}  // namespace duologue
