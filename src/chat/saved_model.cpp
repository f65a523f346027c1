// The files of a saved model, written as a whole folder.
#include "duologue/chat/saved_model.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "duologue/core/durable_file.h"
#include "duologue/core/error.h"
#include "duologue/core/hash.h"
#include "huggingface.h"
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

std::string parent_of(const std::string& path) {
    const std::string parent = fs::path(path).parent_path().string();
    return parent.empty() ? "." : parent;
}

/// Whether `name` is "STEM.PID.part" of a process that is no more. It may be of this process's number: containers give
/// the same ones again.
bool is_leftover(const std::string& name, const std::string& stem) {
    constexpr std::string_view kEnd = ".part";
    if (!name.starts_with(stem + ".") || !name.ends_with(kEnd)) return false;
    const std::size_t begin = stem.size() + 1;
    if (name.size() <= begin + kEnd.size()) return false;
    pid_t process = 0;
    const char* end = name.data() + name.size() - kEnd.size();
    const auto [rest, problem] = std::from_chars(name.data() + begin, end, process);
    if (problem != std::errc() || rest != end || process <= 0) return false;
    return process == getpid() || (kill(process, 0) != 0 && errno == ESRCH);
}

/// Removes what killed processes left of the folder that was to become `final_path`.
void remove_leftovers(const std::string& final_path) {
    const std::string stem = fs::path(final_path).filename().string();
    std::error_code problem;
    std::vector<fs::path> found;
    for (const fs::directory_entry& entry : fs::directory_iterator(parent_of(final_path), problem)) {
        if (is_leftover(entry.path().filename().string(), stem)) found.push_back(entry.path());
    }
    for (const fs::path& path : found) fs::remove_all(path, problem);
}

/// A folder that comes into being whole; without commit() nothing of it stays.
class PendingFolder {
   public:
    explicit PendingFolder(const std::string& final_path)
        : final_path_(final_path.substr(0, final_path.find_last_not_of('/') + 1)),
          path_(fmt::format("{}.{}.part", final_path_, getpid())) {
        remove_leftovers(final_path_);
        std::error_code problem;
        fs::create_directories(path_, problem);
        require(!problem, ErrorCode::kInputOutput, "cannot create the folder '{}': {}", path_, problem.message());
    }
    ~PendingFolder() {
        std::error_code ignored;
        fs::remove_all(path_, ignored);
    }
    PendingFolder(const PendingFolder&) = delete;
    PendingFolder& operator=(const PendingFolder&) = delete;
    PendingFolder(PendingFolder&&) = delete;
    PendingFolder& operator=(PendingFolder&&) = delete;

    [[nodiscard]] const std::string& path() const { return path_; }

    /// Puts the folder in its place. An older folder there changes places with it in one step and is then removed.
    void commit() {
        put_in_place();
        sync_folder(parent_of(final_path_));
    }

   private:
    void put_in_place() const {
        if (!fs::exists(final_path_)) return move(path_, final_path_);
        if (renameat2(AT_FDCWD, path_.c_str(), AT_FDCWD, final_path_.c_str(), RENAME_EXCHANGE) == 0) return;
        // Some network file systems cannot exchange: the older folder stays beside until the new one is in place.
        require(errno == EINVAL || errno == ENOSYS, ErrorCode::kInputOutput, "cannot replace the folder '{}': {}",
                final_path_, std::strerror(errno));
        const std::string older = path_ + ".older";
        move(final_path_, older);
        move(path_, final_path_);
        move(older, path_);
    }
    static void move(const std::string& from, const std::string& to) {
        require(std::rename(from.c_str(), to.c_str()) == 0, ErrorCode::kInputOutput,
                "cannot rename the folder '{}' to '{}': {}", from, to, std::strerror(errno));
    }

    std::string final_path_;
    std::string path_;
};

}  // namespace

Transformer make_transformer(const ModelCard& card, const Vocabulary& vocabulary) {
    return {card.model, vocabulary.size(), Precision::kF32, card.max_context_tokens, card.max_reply_tokens};
}

void save_model(const std::string& folder, const ModelCard& card, const Vocabulary& vocabulary,
                std::span<const float> values) {
    const Transformer model = make_transformer(card, vocabulary);
    const ParameterTable& table = model.parameters();
    require(std::ssize(values) == table.elements(), ErrorCode::kInternal, "{} values for a model of {}", values.size(),
            table.elements());
    PendingFolder pending(folder);
    const std::string config = huggingface_config(card, vocabulary);
    write_file_durably(pending.path() + "/config.json", config);
    write_file_durably(pending.path() + "/vocabulary.json", vocabulary.serialize());
    write_file_durably(pending.path() + "/tokenizer.json", huggingface_tokenizer(vocabulary));
    write_file_durably(pending.path() + "/tokenizer_config.json", huggingface_tokenizer_config());
    PendingFile weights(pending.path() + "/model.safetensors");
    write_safetensors(weights.temporary_path(), huggingface_tensors(table),
                      {{kConfigHash, hash_text(fnv1a(config))}, {kVocabularyHash, vocabulary.hash()}},
                      pieces_of(table, values));
    weights.commit();
    pending.commit();
}

namespace {

/// Where there is no model in `folder`, says where it is.
void require_model(const std::string& folder) {
    const fs::path model = fs::path(folder) / "model";
    const bool holds_weights = fs::exists(folder + "/model.safetensors");
    require(holds_weights || !fs::exists(model / "model.safetensors"), ErrorCode::kInputOutput,
            "'{}' is the output of a training, its model is in a folder of its own: give {}", folder, model.string());
    require(holds_weights || !fs::exists(folder + "/checkpoints"), ErrorCode::kInputOutput,
            "'{}' is the output of a training that has not ended, so there is no model yet; end the training, or make "
            "one of a checkpoint: duologue export --checkpoint {}/checkpoints/step-NUMBER.h5 --output DIR",
            folder, folder);
    require(fs::exists(folder + "/config.json"), ErrorCode::kInputOutput,
            "'{}' is not the folder of a saved model: there is no config.json in it", folder);
}

}  // namespace

SavedModel load_model(const std::string& folder) {
    require_model(folder);
    const std::string path = folder + "/model.safetensors";
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
