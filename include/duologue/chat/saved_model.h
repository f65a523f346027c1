// Saved model: a folder for inference, which Hugging Face's transformers opens as it is.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "duologue/config/config.h"
#include "duologue/data/vocabulary.h"
#include "duologue/model/transformer.h"

namespace duologue {

/// The file of a saved model that holds its parameters, and all of its files.
constexpr std::string_view kWeightsFile = "model.safetensors";
constexpr std::array<std::string_view, 5> kModelFiles{kWeightsFile, "config.json", "vocabulary.json", "tokenizer.json",
                                                      "tokenizer_config.json"};

/// What inference needs to know besides the parameters.
struct ModelCard {
    ModelConfig model;
    std::int64_t max_context_tokens = 0;  ///< as in training
    std::int64_t max_reply_tokens = 0;
    std::int64_t steps = 0;  ///< how long it was trained
};

struct SavedModel {
    ModelCard card;
    Vocabulary vocabulary;
    std::vector<float> values;  ///< the f32 parameters, laid out as the model's ParameterTable says
};

/// The model that the card describes, to run in f32.
[[nodiscard]] Transformer make_transformer(const ModelCard& card, const Vocabulary& vocabulary);

/// kInputOutput where save_model() would replace anything but an older model: `folder` may be missing, empty, or hold a
/// model's files and nothing else. Ask before a long work whose model is to be written there.
void require_room_for_model(const std::string& folder);

/// Writes `folder` whole or not at all, replacing an older model: model.safetensors, config.json (MarianMTModel; for
/// pre-norm PegasusForConditionalGeneration, which is that architecture), tokenizer.json, tokenizer_config.json,
/// vocabulary.json. `values` f32 [elements()] of the card's model. kInputOutput.
void save_model(const std::string& folder, const ModelCard& card, const Vocabulary& vocabulary,
                std::span<const float> values);

/// kInputOutput where a file cannot be read, kData where one is damaged or does not fit the others.
[[nodiscard]] SavedModel load_model(const std::string& folder);

}  // namespace duologue
