// What holds of the model whatever its numbers: order of gradients, accumulation, memory, dropout, decoding, learning.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <string>
#include <tuple>
#include <vector>

#include "duologue/core/error.h"
#include "support/contract.h"
#include "support/model_run.h"
#include "support/reference_backend.h"

namespace duologue {
namespace {

constexpr std::int64_t kVocabulary = 23;

ModelConfig small_config(ModelKind kind, NormPlacement norm) {
    return {.kind = kind,
            .width = 16,
            .heads = 2,
            .hidden = 24,
            .encoder_layers = 2,
            .decoder_layers = 2,
            .norm = norm,
            .activation = Activation::kGelu};
}

/// Largest difference over the largest expected size.
double relative_difference(const std::vector<float>& is, const std::vector<float>& expected) {
    EXPECT_EQ(is.size(), expected.size());
    double difference = 0.0;
    double size = 1e-30;
    for (std::size_t i = 0; i < expected.size(); ++i) {
        difference = std::max(difference, std::abs(static_cast<double>(is[i]) - static_cast<double>(expected[i])));
        size = std::max(size, std::abs(static_cast<double>(expected[i])));
    }
    return difference / size;
}

std::vector<float> sum_of(std::vector<float> a, const std::vector<float>& b) {
    std::ranges::transform(a, b, a.begin(), std::plus<>());
    return a;
}

using Variant = std::tuple<ContractCase, ModelKind, NormPlacement>;

std::string name_of_variant(const testing::TestParamInfo<Variant>& parameters) {
    const auto& [device, kind, norm] = parameters.param;
    return device.name + std::string(kind == ModelKind::kDecoderOnly ? "_decoder_only" : "_encoder_decoder") +
           (norm == NormPlacement::kPost ? "_post" : "_pre");
}

class ModelBehaviour : public testing::TestWithParam<Variant> {
   protected:
    std::unique_ptr<Backend> backend_ = std::get<0>(GetParam()).make(1);  // these sizes are too small to share
    ModelConfig config_ = small_config(std::get<1>(GetParam()), std::get<2>(GetParam()));

    [[nodiscard]] Batch batch(std::uint64_t seed) const {
        return random_batch({.sequences = 4, .vocabulary = kVocabulary, .kind = config_.kind, .seed = seed});
    }
    [[nodiscard]] BatchCapacity capacity() const {
        const std::int64_t source = config_.kind == ModelKind::kEncoderDecoder ? 28 : 0;
        return {
            .source_rows = source, .target_rows = 28, .sequences = 4, .max_source_length = 7, .max_target_length = 7};
    }
    [[nodiscard]] ModelRun make_run(Precision precision = Precision::kF32) {
        return {*backend_, config_, kVocabulary, precision, capacity()};
    }
    static void initialise(ModelRun& run) { run.set_parameters(initial_values(run.model().parameters(), 4)); }
};

TEST_P(ModelBehaviour, ReportsEveryRangeOfGradientsInOrderAndOnlyWhenItIsFinal) {
    ModelRun run = make_run();
    initialise(run);
    run.train(batch(1), 0.1F);
    std::int64_t expected = 0;
    for (const auto& [begin, end] : run.finished()) {
        EXPECT_EQ(begin, expected);
        EXPECT_LE(begin, end);
        expected = end;
    }
    EXPECT_EQ(expected, run.model().parameters().elements());
    EXPECT_EQ(run.gradients_when_finished(), run.gradients());
    EXPECT_GE(run.finished().size(), 5U) << "too coarse to overlap a reduction with the backward pass";
}

TEST_P(ModelBehaviour, AddsTheGradientsOfMicroBatches) {
    ModelRun run = make_run();
    initialise(run);
    run.train(batch(1), 0.1F, 7);
    const std::vector<float> first = run.gradients();
    run.zero_gradients();
    run.train(batch(2), 0.1F, 8);
    const std::vector<float> second = run.gradients();
    run.train(batch(1), 0.1F, 7);
    EXPECT_LE(relative_difference(run.gradients(), sum_of(first, second)), 1e-6);
}

TEST_P(ModelBehaviour, LosesNothingBySplittingABatch) {
    config_.dropout = 0.0;
    const auto sequences = [](std::int64_t first, std::int64_t count) {
        std::vector<std::vector<std::int32_t>> all;
        for (std::int64_t i = first; i < first + count; ++i) {
            all.emplace_back(static_cast<std::size_t>(1 + i % 5), static_cast<std::int32_t>(3 + i));
        }
        return all;
    };
    const auto part = [&](std::int64_t first, std::int64_t count) {
        const bool encodes = config_.kind == ModelKind::kEncoderDecoder;
        return pack_batch(encodes ? sequences(first + 2, count) : sequences(0, 0), sequences(first, count),
                          sequences(first, count));
    };
    ModelRun run = make_run();
    initialise(run);
    run.train(part(0, 4), 0.1F);
    const std::vector<float> whole = run.gradients();
    run.zero_gradients();
    run.train(part(0, 1), 0.1F);
    run.train(part(1, 3), 0.1F);
    EXPECT_LE(relative_difference(run.gradients(), whole), 1e-5);
}

TEST_P(ModelBehaviour, UsesAtCapacityExactlyThePlannedMemoryAndNeverMore) {
    ModelRun run = make_run();
    initialise(run);
    const bool encodes = config_.kind == ModelKind::kEncoderDecoder;
    const std::vector<std::vector<std::int32_t>> full(4, std::vector<std::int32_t>(7, 5));
    for (std::uint64_t seed = 1; seed <= 10; ++seed) {
        run.train(batch(seed), 0.1F);
        EXPECT_LE(run.used_bytes(), run.planned_bytes());
    }
    run.train(pack_batch(encodes ? full : std::vector<std::vector<std::int32_t>>{}, full, full), 0.1F);
    EXPECT_EQ(run.used_bytes(), run.planned_bytes());
}

TEST_P(ModelBehaviour, RefusesABatchLargerThanItsCapacity) {
    ModelRun run = make_run();
    initialise(run);
    const Batch too_long =
        random_batch({.sequences = 4, .max_length = 40, .vocabulary = kVocabulary, .kind = config_.kind, .seed = 3});
    EXPECT_THROW(run.train(too_long, 0.1F), Error);
}

TEST_P(ModelBehaviour, DrawsDropoutFromTheKeyAloneAndOnlyInTraining) {
    config_.dropout = 0.3;
    config_.attention_dropout = 0.3;
    ModelRun run = make_run();
    initialise(run);
    const std::vector<float> losses = run.train(batch(1), 0.1F, 7);
    const std::vector<float> gradients = run.gradients();
    const std::vector<float> evaluated = run.evaluate(batch(1), 0.1F);
    EXPECT_NE(run.train(batch(1), 0.1F, 8), losses);
    run.zero_gradients();
    EXPECT_EQ(run.train(batch(1), 0.1F, 7), losses);
    EXPECT_EQ(run.gradients(), gradients);
    EXPECT_NE(evaluated, losses);
    EXPECT_EQ(run.evaluate(batch(1), 0.1F), evaluated);
}

// Which elements residual dropout drops is part of the contract, so a training step is the same on every back end.
TEST_P(ModelBehaviour, TrainsAsTheReferenceDoesWithDropout) {
    config_.dropout = 0.2;
    const std::unique_ptr<Backend> reference = make_reference_backend();
    ModelRun expected(*reference, config_, kVocabulary, Precision::kF32, capacity());
    ModelRun run = make_run();
    initialise(expected);
    initialise(run);
    EXPECT_LE(relative_difference(run.train(batch(1), 0.1F, 9), expected.train(batch(1), 0.1F, 9)), 1e-5);
    EXPECT_LE(relative_difference(run.gradients(), expected.gradients()), 1e-5);
}

TEST_P(ModelBehaviour, OverfitsOneBatch) {
    config_.dropout = 0.0;
    ModelRun run = make_run();
    initialise(run);
    const Batch one = batch(1);
    double mean = 0.0;
    for (std::int64_t step = 1; step <= 300; ++step) {
        run.zero_gradients();
        const std::vector<float> losses = run.train(one, 0.0F);
        mean = std::accumulate(losses.begin(), losses.end(), 0.0) / static_cast<double>(one.label_count);
        run.adam(step, 0.01 * std::min(1.0, static_cast<double>(step) / 20.0), one.label_count);
    }
    EXPECT_LT(mean, 0.01);
}

class ModelDecoding : public ModelBehaviour {
   protected:
    /// Decodes every sequence of the batch word by word and compares with one forward pass over all of it.
    void expect_decoding_equals_forward(Precision precision, double tolerance) {
        ModelRun run = make_run(precision);
        initialise(run);
        const Batch whole = batch(3);
        const std::vector<float> expected = run.logits(whole);
        IncrementalDecoder decoder(run.model(), *backend_, run.weights(), 7, 7);
        std::vector<float> decoded;
        for (std::size_t i = 0; i + 1 < whole.target.offsets.size(); ++i) {
            std::span<const std::int32_t> source;
            if (config_.kind == ModelKind::kEncoderDecoder) {
                source = std::span(whole.source.tokens)
                             .subspan(static_cast<std::size_t>(whole.source.offsets[i]),
                                      static_cast<std::size_t>(whole.source.offsets[i + 1] - whole.source.offsets[i]));
            }
            decoder.begin(source);
            for (std::int32_t row = whole.target.offsets[i]; row < whole.target.offsets[i + 1]; ++row) {
                const auto logits = decoder.step(whole.target.tokens[static_cast<std::size_t>(row)]);
                decoded.insert(decoded.end(), logits.begin(), logits.end());
            }
            EXPECT_EQ(decoder.length(), whole.target.offsets[i + 1] - whole.target.offsets[i]);
        }
        EXPECT_LE(relative_difference(decoded, expected), tolerance);
    }
};

TEST_P(ModelDecoding, EqualsTheFullForwardPass) { expect_decoding_equals_forward(Precision::kF32, 1e-5); }

// Same roundings in both but for the order of sums inside an operation: one unit of bf16 (2^-8) now and then, passed on
// through at most 10 parts.
TEST_P(ModelDecoding, EqualsTheFullForwardPassInBfloat16) {
    expect_decoding_equals_forward(Precision::kBf16, 10 * 0x1.0p-8);
}

TEST_P(ModelDecoding, ReadsWhatWasSaidBeforeInADecoderOnlyModel) {
    if (config_.kind == ModelKind::kEncoderDecoder) {
        ModelRun run = make_run();
        initialise(run);
        IncrementalDecoder decoder(run.model(), *backend_, run.weights(), 7, 7);
        EXPECT_THROW(decoder.begin({}), Error);
        return;
    }
    ModelRun run = make_run();
    initialise(run);
    const std::vector<std::int32_t> said{4, 8, 15};
    IncrementalDecoder decoder(run.model(), *backend_, run.weights(), 7, 7);
    decoder.begin(said);
    const auto logits = decoder.step(16);
    const std::vector<float> after(logits.begin(), logits.end());
    const std::vector<float> all = run.logits(pack_batch({}, {{4, 8, 15, 16}}, {{8, 15, 16, 2}}));
    EXPECT_LE(relative_difference(after, {all.end() - kVocabulary, all.end()}), 1e-5);
}

/// One of each back end: the precision is chosen by the test.
std::vector<ContractCase> back_ends() {
    std::vector<ContractCase> cases = contract_cases();
    std::erase_if(cases, [](const ContractCase& each) { return each.type != DataType::kF32; });
    return cases;
}

const auto kVariants = testing::Combine(testing::ValuesIn(back_ends()),
                                        testing::Values(ModelKind::kEncoderDecoder, ModelKind::kDecoderOnly),
                                        testing::Values(NormPlacement::kPost, NormPlacement::kPre));
INSTANTIATE_TEST_SUITE_P(Variants, ModelBehaviour, kVariants, name_of_variant);
INSTANTIATE_TEST_SUITE_P(Variants, ModelDecoding, kVariants, name_of_variant);

TEST(ModelShape, RefusesWhatCannotBe) {
    const auto make = [](const ModelConfig& config) { return Transformer(config, 10, Precision::kF32, 8, 8); };
    EXPECT_THROW((void)make({.width = 10, .heads = 3}), Error);
    EXPECT_THROW((void)make({.width = 9, .heads = 3}), Error);
    EXPECT_THROW((void)make({.decoder_layers = 0}), Error);
    EXPECT_THROW((void)make({.encoder_layers = 0}), Error);
}

TEST(InitialValues, AreAFunctionOfNameAndSeedWithTheSpreadAskedFor) {
    const ModelConfig config{.width = 64, .heads = 4, .hidden = 128, .encoder_layers = 1, .decoder_layers = 1};
    const Transformer model(config, 300, Precision::kF32, 8, 8);
    const ParameterTable& table = model.parameters();
    const std::vector<float> values = initial_values(table, 3);
    EXPECT_EQ(initial_values(table, 3), values);
    EXPECT_NE(initial_values(table, 4), values);
    for (const ParameterEntry& entry : table.entries()) {
        const auto begin = values.begin() + entry.offset;
        const std::int64_t count = entry.rows * entry.columns;
        const double squares = std::inner_product(begin, begin + count, begin, 0.0) / static_cast<double>(count);
        // Xavier's uniform numbers have the variance 2 / (fan_in + fan_out); a stacked matrix counts as its parts.
        double expected = 0.0;
        if (entry.name.ends_with("norm.weight")) expected = 1.0;
        if (entry.name == "embedding.weight") expected = 1.0 / 64.0;
        if (entry.name.find("attention.") != std::string::npos && entry.name.ends_with("weight"))
            expected = 2.0 / 128.0;
        if (entry.name.find(".fc") != std::string::npos && entry.name.ends_with("weight")) expected = 2.0 / 192.0;
        EXPECT_NEAR(squares, expected, 0.1 * expected) << entry.name;
    }
}

}  // namespace
}  // namespace duologue
