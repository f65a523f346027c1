// The model against an independent implementation: logits, losses, gradients and ten Adam steps made with PyTorch.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <tuple>
#include <vector>

#include "duologue/core/error.h"
#include "support/contract.h"
#include "support/model_run.h"

namespace duologue {
namespace {

using Sequences = std::vector<std::vector<std::int32_t>>;

std::uint32_t fnv1a(const std::string& name) {
    std::uint32_t hash = 0x811c9dc5U;
    for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x01000193U;
    return hash;
}

/// make_golden.py's formula(): values that are the same number in bf16, f32 and f64.
float initial_value(const std::string& name, std::uint32_t index) {
    std::uint32_t word = index * 2654435761U + fnv1a(name);
    word ^= word >> 15;
    word *= 0x2C1B3C6DU;
    word ^= word >> 12;
    word *= 0x297A2D39U;
    word ^= word >> 15;
    const auto step = static_cast<float>(static_cast<int>(word >> 25) - 64);
    if (name.find("norm.weight") != std::string::npos) return 1.0F + std::floor(step / 2.0F) / 128.0F;
    if (name == "embedding.weight" || name.find("norm.bias") != std::string::npos) return step / 256.0F;
    return name.ends_with("weight") ? step / 128.0F : step / 512.0F;
}

struct Golden {
    nlohmann::json json;
    ModelConfig config;
    Batch batch;

    explicit Golden(const std::string& file) {
        std::ifstream stream(std::string(DUOLOGUE_GOLDEN_FOLDER) + "/" + file + ".json");
        require(stream.good(), ErrorCode::kInputOutput, "no golden values {}", file);
        json = nlohmann::json::parse(stream);
        config.width = json.at("width");
        config.heads = json.at("heads");
        config.hidden = json.at("hidden");
        config.encoder_layers = config.decoder_layers = json.at("layers");
        config.norm = json.at("norm") == "post" ? NormPlacement::kPost : NormPlacement::kPre;
        config.activation = json.at("activation") == "relu" ? Activation::kRelu : Activation::kGelu;
        config.dropout = 0.0;
        batch = pack_batch(json.at("sources").get<Sequences>(), json.at("targets").get<Sequences>(),
                           json.at("labels").get<Sequences>());
    }
    [[nodiscard]] std::vector<double> values(const std::string& key) const { return json.at(key); }
};

std::vector<float> golden_parameters(const ParameterTable& table) {
    std::vector<float> flat(static_cast<std::size_t>(table.elements()), 0.0F);
    for (const ParameterEntry& entry : table.entries()) {
        for (std::int64_t i = 0; i < entry.rows * entry.columns; ++i) {
            flat[static_cast<std::size_t>(entry.offset + i)] = initial_value(entry.name, static_cast<std::uint32_t>(i));
        }
    }
    return flat;
}

/// |is - expected| over |expected|, Euclidean norms.
double relative_distance(std::span<const float> is, std::span<const double> expected) {
    EXPECT_EQ(is.size(), expected.size());
    double difference = 0.0;
    double size = 0.0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
        difference += std::pow(static_cast<double>(is[i]) - expected[i], 2);
        size += std::pow(expected[i], 2);
    }
    return std::sqrt(difference / size);
}

// f32: 1e-5 of the norm of each tensor. bf16 rounds each activation to 2^-9 relative; a value passes about 3 roundings
// per part in 2 x 2 + 2 x 3 = 10 parts, and gradients as many on their way back. Independent roundings add up like the
// root of their number: sqrt(30) * 2^-9 = 1.1 % forward, sqrt(60) * 2^-9 = 1.5 % back, and the worst of 80 tensors lies
// two to three times above the mean.
// The derivative of ReLU jumps: a forward error of e = 1.1 % of the spread of its argument turns about 0.8 e * 0.4 of
// the units on or off, and with half of them on that is sqrt(2 * 0.0035) = 8 % of the gradient's norm.
double forward_tolerance(Precision precision) { return precision == Precision::kF32 ? 1e-5 : 0.02; }
double gradient_tolerance(Precision precision, Activation activation) {
    if (precision == Precision::kF32) return 1e-5;
    return activation == Activation::kGelu ? 0.04 : 0.16;
}

// What the steps added. Adam divides each gradient by its size, so an element takes a step of full length whose sign is
// lost when its gradient is smaller than the rounding of its tensor's: a share p of the elements, and 2 sqrt(p) of the
// norm. f32: gradients good to 1e-6 of their spread, p = 1e-6 at most 1 element, and the others 1e-5 or so. bf16: good
// to 1.5 %, p = 0.6 %, 2 sqrt(p) = 15 %, twice that for the worst tensor.
double update_tolerance(Precision precision) { return precision == Precision::kF32 ? 1e-4 : 0.3; }

/// The keys' bias adds the same number to every score of a query, which softmax takes away again: its true gradient is
/// 0, what is computed is rounding, and Adam, which divides by its size, makes of it a step of full length.
bool is_key_bias(const ParameterEntry& entry, std::int64_t width, std::int64_t element) {
    if (entry.name.ends_with("qkv.bias")) return element >= width && element < 2 * width;
    return entry.name.ends_with("kv.bias") && element < width;
}

class GoldenModel : public testing::TestWithParam<std::tuple<ContractCase, std::string>> {
   protected:
    std::unique_ptr<Backend> backend_ = std::get<0>(GetParam()).make(1);  // these sizes are too small to share
    Golden golden_{std::get<1>(GetParam())};
    Precision precision_ = std::get<0>(GetParam()).type == DataType::kF32 ? Precision::kF32 : Precision::kBf16;
    ModelRun run_{*backend_, golden_.config, golden_.json.at("vocabulary"), precision_, capacity_of(golden_.batch)};
    float smoothing_ = golden_.json.at("smoothing");

    std::vector<float> initial_ = golden_parameters(run_.model().parameters());

    void SetUp() override { run_.set_parameters(initial_); }

    /// Compares each parameter's slice of a flat buffer with the golden values of `key`, both less `base`.
    void expect_near_golden(const std::vector<float>& flat, const std::string& key, const std::vector<float>& base,
                            double tolerance) {
        for (const ParameterEntry& entry : run_.model().parameters().entries()) {
            const std::vector<double> golden = golden_.json.at(key).at(entry.name);
            std::vector<float> is;
            std::vector<double> expected;
            for (std::int64_t i = 0; i < entry.rows * entry.columns; ++i) {
                if (is_key_bias(entry, golden_.config.width, i)) continue;
                const auto place = static_cast<std::size_t>(entry.offset + i);
                is.push_back(flat[place] - base[place]);
                expected.push_back(golden[static_cast<std::size_t>(i)] - static_cast<double>(base[place]));
            }
            EXPECT_LE(relative_distance(is, expected), tolerance) << key << " of " << entry.name;
        }
    }
};

TEST_P(GoldenModel, GivesTheLogitsOfPyTorch) {
    EXPECT_LE(relative_distance(run_.logits(golden_.batch), golden_.values("logits")), forward_tolerance(precision_));
}

TEST_P(GoldenModel, GivesTheLossesOfPyTorchInEvaluationAndTraining) {
    const std::vector<double> expected = golden_.values("losses");
    EXPECT_LE(relative_distance(run_.evaluate(golden_.batch, smoothing_), expected), forward_tolerance(precision_));
    EXPECT_LE(relative_distance(run_.train(golden_.batch, smoothing_), expected), forward_tolerance(precision_));
}

TEST_P(GoldenModel, GivesEveryParameterGradientOfPyTorch) {
    run_.train(golden_.batch, smoothing_);
    const std::vector<float> gradients = run_.gradients();
    const std::vector<float> zero(gradients.size(), 0.0F);
    expect_near_golden(gradients, "gradients", zero, gradient_tolerance(precision_, golden_.config.activation));
}

TEST_P(GoldenModel, TakesTheOptimizerStepsOfPyTorch) {
    const std::vector<double> rates = golden_.values("learning_rates");
    const std::vector<double> means = golden_.values("mean_losses");
    for (std::size_t step = 0; step < rates.size(); ++step) {
        run_.zero_gradients();
        double mean = 0.0;
        for (const float loss : run_.train(golden_.batch, smoothing_)) mean += loss;
        mean /= static_cast<double>(golden_.batch.label_count);
        EXPECT_NEAR(mean, means[step], forward_tolerance(precision_) * means[step]) << "step " << step + 1;
        run_.adam(static_cast<std::int64_t>(step) + 1, rates[step], golden_.batch.label_count);
    }
    const std::vector<float> parameters = run_.parameters();
    expect_near_golden(parameters, "final_parameters", std::vector<float>(parameters.size(), 0.0F),
                       precision_ == Precision::kF32 ? 1e-5 : 0.05);
    expect_near_golden(parameters, "final_parameters", initial_, update_tolerance(precision_));
}

std::string name_of_golden(const testing::TestParamInfo<std::tuple<ContractCase, std::string>>& parameters) {
    const auto& [device, file] = parameters.param;
    return device.name + "_" + std::string(name_of(device.type)) + "_" + file;
}

INSTANTIATE_TEST_SUITE_P(BackEnds, GoldenModel,
                         testing::Combine(testing::ValuesIn(contract_cases()),
                                          testing::Values("post_relu", "post_gelu", "pre_relu", "pre_gelu",
                                                          "pre_relu_one_head")),
                         name_of_golden);

}  // namespace
}  // namespace duologue
