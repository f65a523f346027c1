// The whole model's gradient against central differences, parameter by parameter, dropout on.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <string>
#include <tuple>
#include <vector>

#include "duologue/core/random.h"
#include "support/model_run.h"
#include "support/reference_backend.h"

namespace duologue {
namespace {

constexpr std::int64_t kVocabulary = 19;
constexpr float kSmoothing = 0.1F;

using Variant = std::tuple<ModelKind, NormPlacement, Activation>;

ModelConfig config_of(const Variant& variant) {
    const auto& [kind, norm, activation] = variant;
    return {.kind = kind,
            .width = 12,
            .heads = 3,
            .hidden = 20,
            .encoder_layers = 2,
            .decoder_layers = 2,
            .norm = norm,
            .activation = activation,
            .dropout = 0.2,
            .attention_dropout = 0.2};
}

std::string name_of_variant(const testing::TestParamInfo<Variant>& parameters) {
    const auto& [kind, norm, activation] = parameters.param;
    return std::string(kind == ModelKind::kDecoderOnly ? "decoder_only" : "encoder_decoder") +
           (norm == NormPlacement::kPost ? "_post" : "_pre") + (activation == Activation::kRelu ? "_relu" : "_gelu");
}

class ModelGradient : public testing::TestWithParam<Variant> {
   protected:
    Batch batch_ = random_batch({.vocabulary = kVocabulary, .kind = std::get<0>(GetParam()), .seed = 5});
    std::unique_ptr<Backend> backend_ = make_reference_backend();
    ModelRun run_{*backend_, config_of(GetParam()), kVocabulary, Precision::kF32, capacity_of(batch_)};
    std::vector<float> values_;

    /// Biases and norms moved off their initial 0 and 1, where some errors do not show.
    void SetUp() override {
        values_ = initial_values(run_.model().parameters(), 1);
        RandomStream stream(2);
        for (float& value : values_) value += static_cast<float>(0.2 * stream.uniform() - 0.1);
    }

    double loss_at(const std::vector<double>& direction, const ParameterEntry& entry, double step) {
        std::vector<float> moved = values_;
        for (std::size_t i = 0; i < direction.size(); ++i) {
            moved[static_cast<std::size_t>(entry.offset) + i] += static_cast<float>(step * direction[i]);
        }
        run_.set_parameters(moved);
        const std::vector<float> losses = run_.train(batch_, kSmoothing);
        return std::accumulate(losses.begin(), losses.end(), 0.0);
    }

    /// A unit vector along the gradient plus a random one: the first makes the slope large against rounding, the
    /// second finds what the gradient lacks.
    static std::vector<double> direction_of(const std::vector<double>& gradient, std::uint64_t seed) {
        RandomStream stream(seed);
        std::vector<double> random(gradient.size());
        for (double& value : random) value = stream.normal();
        const auto norm = [](const std::vector<double>& v) {
            return std::sqrt(std::inner_product(v.begin(), v.end(), v.begin(), 1e-30));
        };
        std::vector<double> direction(gradient.size());
        for (std::size_t i = 0; i < direction.size(); ++i) {
            direction[i] = gradient[i] / norm(gradient) + random[i] / norm(random);
        }
        return direction;
    }
};

// Each of the ~12 summed losses of ~3 carries f32 rounding of a few 1e-7, so a loss is good to e = 3e-6 and a
// difference over the step h to e / h. The five-point rule leaves h^4, nothing for h = 0.02: 3e-4 absolute. ReLU has
// kinks: a unit that crosses one within h spoils its share of the slope, and the number of those grows with h. For
// h = 0.0005 it is about one unit in a thousand, that is at most 1 % of a slope; rounding costs 5e-3 absolute.
struct Accuracy {
    double step;
    double relative;
    double absolute;
};

TEST_P(ModelGradient, AgreesWithCentralDifferencesInEveryParameter) {
    const bool smooth = std::get<2>(GetParam()) == Activation::kGelu;
    const Accuracy accuracy = smooth ? Accuracy{.step = 0.02, .relative = 1e-3, .absolute = 3e-4}
                                     : Accuracy{.step = 0.0005, .relative = 1e-2, .absolute = 5e-3};
    run_.set_parameters(values_);
    run_.train(batch_, kSmoothing);
    const std::vector<float> gradients = run_.gradients();
    for (const ParameterEntry& entry : run_.model().parameters().entries()) {
        const auto begin = gradients.begin() + entry.offset;
        const std::vector<double> gradient(begin, begin + entry.rows * entry.columns);
        const std::vector<double> direction = direction_of(gradient, static_cast<std::uint64_t>(entry.offset));
        const double expected = std::inner_product(gradient.begin(), gradient.end(), direction.begin(), 0.0);
        const auto difference = [&](double step) {
            return loss_at(direction, entry, step) - loss_at(direction, entry, -step);
        };
        const double h = accuracy.step;
        const double slope = (8.0 * difference(h) - difference(2.0 * h)) / (12.0 * h);
        EXPECT_NEAR(slope, expected, accuracy.relative * std::abs(expected) + accuracy.absolute) << entry.name;
    }
}

INSTANTIATE_TEST_SUITE_P(Variants, ModelGradient,
                         testing::Combine(testing::Values(ModelKind::kEncoderDecoder, ModelKind::kDecoderOnly),
                                          testing::Values(NormPlacement::kPost, NormPlacement::kPre),
                                          testing::Values(Activation::kRelu, Activation::kGelu)),
                         name_of_variant);

}  // namespace
}  // namespace duologue
