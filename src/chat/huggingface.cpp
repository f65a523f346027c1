// Names of tensors, config.json, tokenizer.json.
#include "huggingface.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "duologue/core/error.h"

namespace duologue {

namespace {

using nlohmann::json;
using nlohmann::ordered_json;

/// A part of one of our names, and the parts it becomes; several split the rows evenly.
struct Renaming {
    std::string_view ours;
    std::array<std::string_view, 3> theirs;
};

constexpr std::array kRenamings{
    Renaming{"embedding.", {"model.shared."}},
    Renaming{"encoder.norm.", {"model.encoder.layer_norm."}},
    Renaming{"decoder.norm.", {"model.decoder.layer_norm."}},
    Renaming{"self_attention.qkv.", {"self_attn.q_proj.", "self_attn.k_proj.", "self_attn.v_proj."}},
    Renaming{"self_attention.out.", {"self_attn.out_proj."}},
    Renaming{"self_attention_norm.", {"self_attn_layer_norm."}},
    Renaming{"cross_attention.q.", {"encoder_attn.q_proj."}},
    Renaming{"cross_attention.kv.", {"encoder_attn.k_proj.", "encoder_attn.v_proj."}},
    Renaming{"cross_attention.out.", {"encoder_attn.out_proj."}},
    Renaming{"cross_attention_norm.", {"encoder_attn_layer_norm."}},
    Renaming{"feed_forward.fc1.", {"fc1."}},
    Renaming{"feed_forward.fc2.", {"fc2."}},
    Renaming{"feed_forward_norm.", {"final_layer_norm."}},
};

std::vector<std::string> huggingface_names(const std::string& ours) {
    std::vector<std::string> names;
    for (const Renaming& renaming : kRenamings) {
        const std::size_t at = ours.find(renaming.ours);
        // "q." also ends other parts' names: the part begins the name or follows a point.
        if (at == std::string::npos || (at > 0 && ours[at - 1] != '.')) continue;
        const std::string before = at > 0 ? "model." + ours.substr(0, at) : "";
        for (const std::string_view theirs : renaming.theirs) {
            if (theirs.empty()) continue;
            names.push_back(before + std::string(theirs) + ours.substr(at + renaming.ours.size()));
        }
        return names;
    }
    fail(ErrorCode::kInternal, "the parameter {} has no name in Hugging Face's models", ours);
}

ordered_json own_settings(const ModelCard& card) {
    Config config;
    config.model = card.model;
    const ordered_json all = ordered_json::parse(print_config(config));
    return {
        {"steps", card.steps},
        {"options",
         {{"model", all.at("model")},
          {"data", {{"max_context_tokens", card.max_context_tokens}, {"max_reply_tokens", card.max_reply_tokens}}}}}};
}

}  // namespace

std::vector<NamedShape> huggingface_tensors(const ParameterTable& table) {
    std::vector<NamedShape> tensors;
    for (const ParameterEntry& entry : table.entries()) {
        const std::vector<std::string> names = huggingface_names(entry.name);
        const auto parts = std::ssize(names);
        const bool matrix = entry.rows > 1;
        for (const std::string& name : names) {
            tensors.push_back({.name = name,
                               .shape = matrix ? std::vector{entry.rows / parts, entry.columns}
                                               : std::vector{entry.columns / parts}});
        }
    }
    return tensors;
}

std::string huggingface_config(const ModelCard& card, const Vocabulary& vocabulary) {
    const ModelConfig& model = card.model;
    const bool post = model.norm == NormPlacement::kPost;
    const ordered_json config{
        {"architectures", {post ? "MarianMTModel" : "PegasusForConditionalGeneration"}},
        {"model_type", post ? "marian" : "pegasus"},
        {"vocab_size", vocabulary.size()},
        {"decoder_vocab_size", vocabulary.size()},
        {"d_model", model.width},
        {"encoder_layers", model.encoder_layers},
        {"decoder_layers", model.decoder_layers},
        {"encoder_attention_heads", model.heads},
        {"decoder_attention_heads", model.heads},
        {"encoder_ffn_dim", model.hidden},
        {"decoder_ffn_dim", model.hidden},
        {"activation_function", model.activation == Activation::kRelu ? "relu" : "gelu_pytorch_tanh"},
        {"dropout", model.dropout},
        {"attention_dropout", model.attention_dropout},
        {"activation_dropout", 0.0},
        {"scale_embedding", true},
        {"share_encoder_decoder_embeddings", true},
        {"tie_word_embeddings", true},
        {"max_position_embeddings", std::max(card.max_context_tokens, card.max_reply_tokens)},
        {"is_encoder_decoder", true},
        {"pad_token_id", Vocabulary::kPad},
        {"bos_token_id", Vocabulary::kStart},
        {"decoder_start_token_id", Vocabulary::kStart},
        {"eos_token_id", Vocabulary::kEnd},
        {"forced_eos_token_id", nullptr},
        {"torch_dtype", "float32"},
        {"duologue", own_settings(card)},
    };
    return config.dump(2) + "\n";
}

ModelCard card_from_config(const std::string& text, const std::string& source) {
    const json document = json::parse(text, nullptr, false);
    require(document.is_object() && document.contains("duologue"), ErrorCode::kData,
            "'{}' is damaged or not of a model that duologue has written", source);
    const json& own = document["duologue"];
    require(own.contains("options") && own.contains("steps") && own["steps"].is_number_integer(), ErrorCode::kData,
            "'{}' lacks what duologue wrote about the model; copy the folder again", source);
    Config config;
    read_config(config, own["options"].dump(), source);
    return {.model = config.model,
            .max_context_tokens = config.data.max_context_tokens,
            .max_reply_tokens = config.data.max_reply_tokens,
            .steps = own["steps"].get<std::int64_t>()};
}

std::string huggingface_tokenizer(const Vocabulary& vocabulary) {
    const WordRules& rules = vocabulary.rules();
    ordered_json normalizers{{{"type", "NFC"}}};
    if (rules.letter_case == LetterCase::kLower) {
        normalizers.push_back({{"type", "Lowercase"}});
        normalizers.push_back({{"type", "NFC"}});
    }
    normalizers.push_back({{"type", "Replace"}, {"pattern", {{"String", "\u2019"}}}, {"content", "'"}});
    const std::string word = R"([\p{L}\p{M}\p{Nd}']+)";
    const std::string pattern = rules.punctuation == Punctuation::kKeep ? word + R"(|\S)" : word;
    ordered_json added = ordered_json::array();
    ordered_json ids;
    for (std::int32_t id = 0; id < vocabulary.size(); ++id) {
        ids[vocabulary.text(id)] = id;
        if (id >= Vocabulary::kSpecialTokens) continue;
        added.push_back({{"id", id},
                         {"content", vocabulary.text(id)},
                         {"single_word", false},
                         {"lstrip", false},
                         {"rstrip", false},
                         {"normalized", false},
                         {"special", true}});
    }
    const std::string& end = vocabulary.text(Vocabulary::kEnd);
    const ordered_json words{{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
    const ordered_json end_token{{"SpecialToken", {{"id", end}, {"type_id", 0}}}};
    const ordered_json second{{"Sequence", {{"id", "B"}, {"type_id", 0}}}};
    const ordered_json tokenizer{
        {"version", "1.0"},
        {"truncation", nullptr},
        {"padding", nullptr},
        {"added_tokens", added},
        {"normalizer", {{"type", "Sequence"}, {"normalizers", normalizers}}},
        {"pre_tokenizer",
         {{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Removed"}, {"invert", true}}},
        {"post_processor",
         {{"type", "TemplateProcessing"},
          {"single", {words, end_token}},
          {"pair", {words, end_token, second, end_token}},
          {"special_tokens", {{end, {{"id", end}, {"ids", {Vocabulary::kEnd}}, {"tokens", {end}}}}}}}},
        {"decoder", nullptr},
        {"model", {{"type", "WordLevel"}, {"vocab", ids}, {"unk_token", vocabulary.text(Vocabulary::kUnknown)}}},
    };
    return tokenizer.dump(1) + "\n";
}

std::string huggingface_tokenizer_config() {
    const ordered_json config{{"tokenizer_class", "PreTrainedTokenizerFast"},
                              {"pad_token", "<pad>"},
                              {"bos_token", "<sos>"},
                              {"eos_token", "<eos>"},
                              {"unk_token", "<unk>"}};
    return config.dump(2) + "\n";
}

}  // namespace duologue
