// Hugging Face: the names and files under which transformers knows our model and our words.
#pragma once

#include <string>
#include <vector>

#include "duologue/chat/saved_model.h"
#include "safetensors.h"

namespace duologue {

/// The tensors of a parameter table under their names in MarianMTModel or PegasusForConditionalGeneration. Entries that
/// we keep stacked (queries, keys and values) become several tensors, which are ranges of their rows: the elements
/// follow each other exactly as in the table.
[[nodiscard]] std::vector<NamedShape> huggingface_tensors(const ParameterTable& table);

/// config.json. The object "duologue" in it holds what the loader reads; transformers passes it by.
[[nodiscard]] std::string huggingface_config(const ModelCard& card, const Vocabulary& vocabulary);
/// The card in a config.json; kData naming `source`.
[[nodiscard]] ModelCard card_from_config(const std::string& text, const std::string& source);

/// tokenizer.json of the `tokenizers` library: the same words from the same text, and <eos> after them.
[[nodiscard]] std::string huggingface_tokenizer(const Vocabulary& vocabulary);
/// tokenizer_config.json.
[[nodiscard]] std::string huggingface_tokenizer_config();

}  // namespace duologue
