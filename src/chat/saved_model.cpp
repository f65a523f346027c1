// The files of a saved model, written as a whole folder.
#include "duologue/chat/saved_model.h"

#include <algorithm>
#include <filesystem>

#include "duologue/core/durable_file.h"
#include "duologue/core/error.h"
#include "duologue/core/hash.h"
#include "huggingface.h"
#include "pending_folder.h"
#include "safetensors.h"

namespace duologue {

namespace {

namespace fs = std::filesystem;

constexpr const char* kConfigHash = "config_hash";
constexpr const char* kVocabularyHash = "vocabulary_hash";

/// The entries of the table in `values`, without the gaps between them.
template <class T>
std::vector<std::span<T>> pieces_of(const ParameterTable& table, std::span<T> values) {
    std::vector<std::span<T>> pieces;
    for (const ParameterEntry& entry : table.entries()) {
        pieces.push_back(values.subspan(static_cast<std::size_t>(entry.offset),
                                        static_cast<std::size_t>(entry.rows * entry.columns)));
    }
    return pieces;
}

}  // namespace

Transformer make_transformer(const ModelCard& card, const Vocabulary& vocabulary) {
    return {card.model, vocabulary.size(), Precision::kF32, card.max_context_tokens, card.max_reply_tokens};
}

void require_room_for_model(const std::string& folder) {
    std::error_code problem;
    const fs::file_status status = fs::status(folder, problem);
    if (status.type() == fs::file_type::not_found) {
        return require(!fs::is_symlink(fs::symlink_status(folder, problem)), ErrorCode::kInputOutput,
                       "a model cannot be written to '{}', a link that leads nowhere; remove it, or make the folder",
                       folder);
    }
    require(fs::is_directory(status), ErrorCode::kInputOutput,
            "a model cannot be written to '{}', which is not a folder; name another", folder);
    for (fs::directory_iterator entry(folder, problem); !problem && entry != end(entry); entry.increment(problem)) {
        const std::string name = entry->path().filename().string();
        const bool is_of_a_model = std::find(kModelFiles.begin(), kModelFiles.end(), name) != kModelFiles.end();
        require(is_of_a_model, ErrorCode::kInputOutput,
                "a model would replace the folder '{}', in which there is '{}', which is no part of a model; name "
                "another folder, or move that away",
                folder, name);
    }
    require(!problem, ErrorCode::kInputOutput, "cannot list the folder '{}': {}", folder, problem.message());
}

void save_model(const std::string& folder, const ModelCard& card, const Vocabulary& vocabulary,
                std::span<const float> values) {
    const Transformer model = make_transformer(card, vocabulary);
    const ParameterTable& table = model.parameters();
    require(std::ssize(values) == table.elements(), ErrorCode::kInternal, "{} values for a model of {}", values.size(),
            table.elements());
    require_room_for_model(folder);
    PendingFolder pending(folder);
    const std::string config = huggingface_config(card, vocabulary);
    write_file_durably(pending.file("config.json"), config);
    write_file_durably(pending.file("vocabulary.json"), vocabulary.serialize());
    write_file_durably(pending.file("tokenizer.json"), huggingface_tokenizer(vocabulary));
    write_file_durably(pending.file("tokenizer_config.json"), huggingface_tokenizer_config());
    PendingFile weights(pending.file(kWeightsFile));
    write_safetensors(weights.temporary_path(), huggingface_tensors(table),
                      {{kConfigHash, hash_text(fnv1a(config))}, {kVocabularyHash, vocabulary.hash()}},
                      pieces_of(table, values));
    weights.commit();
    pending.commit();
}

SavedModel load_model(const std::string& folder) {
    require(fs::exists(folder + "/config.json"), ErrorCode::kInputOutput,
            "'{}' is not the folder of a saved model: there is no config.json in it", folder);
    const std::string path = (fs::path(folder) / kWeightsFile).string();
    Metadata stated = read_safetensors_metadata(path);
    const std::string config = read_file(folder + "/config.json");
    require(stated[kConfigHash] == hash_text(fnv1a(config)), ErrorCode::kData,
            "'{}/config.json' is not the one that the model was saved with (hash {} instead of '{}'); copy the folder "
            "again",
            folder, hash_text(fnv1a(config)), stated[kConfigHash]);
    SavedModel saved{.card = card_from_config(config, folder + "/config.json"),
                     .vocabulary = Vocabulary::load(folder + "/vocabulary.json"),
                     .values = {}};
    require(stated[kVocabularyHash] == saved.vocabulary.hash(), ErrorCode::kData,
            "'{}' was saved with the vocabulary '{}', but vocabulary.json beside it is {}; copy the folder again", path,
            stated[kVocabularyHash], saved.vocabulary.hash());
    const Transformer model = make_transformer(saved.card, saved.vocabulary);
    saved.values.resize(static_cast<std::size_t>(model.parameters().elements()));
    read_safetensors(path, huggingface_tensors(model.parameters()),
                     pieces_of(model.parameters(), std::span(saved.values)));
    return saved;
}

}  // namespace duologue
