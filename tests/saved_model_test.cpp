// Saved models: what is written is read back, damage is found, the names are Hugging Face's.
#include "duologue/chat/saved_model.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "duologue/core/durable_file.h"
#include "duologue/core/error.h"

namespace duologue {
namespace {

using testing::HasSubstr;

class SavedModelFolder : public testing::Test {
   protected:
    SavedModelFolder() {
        card_.model.width = 8;
        card_.model.heads = 2;
        card_.model.hidden = 12;
        card_.model.encoder_layers = 2;
        card_.model.decoder_layers = 1;
        card_.max_context_tokens = 16;
        card_.max_reply_tokens = 6;
        card_.steps = 42;
        std::filesystem::create_directories(folder_);
        values_ = initial_values(make_transformer(card_, vocabulary_).parameters(), 5);
    }
    ~SavedModelFolder() override { std::filesystem::remove_all(root_); }
    SavedModelFolder(const SavedModelFolder&) = delete;
    SavedModelFolder& operator=(const SavedModelFolder&) = delete;
    SavedModelFolder(SavedModelFolder&&) = delete;
    SavedModelFolder& operator=(SavedModelFolder&&) = delete;

    void save() const { save_model(folder_, card_, vocabulary_, values_); }

    std::string load_message() const {
        try {
            (void)load_model(folder_);
        } catch (const Error& error) {
            EXPECT_EQ(error.code(), ErrorCode::kData);
            return error.what();
        }
        return "";
    }

    Vocabulary vocabulary_{{}, {{"hello", 9}, {"caf\u00e9", 3}}, 12};
    ModelCard card_;
    std::string root_ =
        testing::TempDir() + "duologue_saved_model_" + testing::UnitTest::GetInstance()->current_test_info()->name();
    std::string folder_ = root_ + "/model";
    std::vector<float> values_;
};

TEST_F(SavedModelFolder, IsReadBackAsItWasWritten) {
    save();
    const SavedModel loaded = load_model(folder_);
    EXPECT_EQ(loaded.values, values_);
    EXPECT_EQ(loaded.vocabulary.hash(), vocabulary_.hash());
    EXPECT_EQ(loaded.card.steps, 42);
    EXPECT_EQ(loaded.card.max_context_tokens, 16);
    EXPECT_EQ(loaded.card.model.hidden, 12);
}

TEST_F(SavedModelFolder, ReplacesAnOlderOneAndLeavesNothingBeside) {
    save();
    card_.steps = 43;
    save_model(folder_ + "/", card_, vocabulary_, values_);
    EXPECT_EQ(load_model(folder_).card.steps, 43);
    const auto entries = std::filesystem::directory_iterator(root_);
    EXPECT_EQ(std::distance(begin(entries), end(entries)), 1);
}

TEST_F(SavedModelFolder, ReplacesNothingButAModel) {
    const std::string precious = folder_ + "/thesis.txt";
    write_file_durably(precious, "x");
    try {
        save();
        ADD_FAILURE() << "the folder was replaced";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kInputOutput);
        EXPECT_THAT(error.what(), HasSubstr("thesis.txt"));
    }
    EXPECT_THROW(save_model(precious, card_, vocabulary_, values_), Error);
    EXPECT_EQ(read_file(precious), "x");
}

TEST_F(SavedModelFolder, FollowsALinkToTheFolderThatItReplaces) {
    save();
    const std::string link = root_ + "/newest";
    std::filesystem::create_directory_symlink("model", link);
    card_.steps = 43;
    save_model(link, card_, vocabulary_, values_);
    EXPECT_TRUE(std::filesystem::is_symlink(link));
    EXPECT_EQ(load_model(folder_).card.steps, 43);
}

TEST_F(SavedModelFolder, IsNotPutWhereALinkLeadsNowhere) {
    const std::string link = root_ + "/newest";
    std::filesystem::create_directory_symlink("nowhere", link);
    EXPECT_THROW(require_room_for_model(link), Error);
}

/// The number of a process that is no more.
pid_t ended_process() {
    const pid_t child = fork();
    if (child == 0) _exit(0);
    (void)waitpid(child, nullptr, 0);
    return child;
}

TEST_F(SavedModelFolder, RemovesWhatAKilledProcessLeftAndNothingElse) {
    const auto beside = [&](const std::string& name) {
        std::filesystem::create_directories(root_ + "/" + name);
        std::ofstream(root_ + "/" + name + "/stray.json") << "x";
        return root_ + "/" + name;
    };
    const std::string dead = beside(fmt::format("model.{}.part", ended_process()));
    const std::string own = beside(fmt::format("model.{}.part", getpid()));
    const std::string running = beside(fmt::format("model.{}.part", getppid()));
    const std::string other = beside(fmt::format("models.{}.part", ended_process()));
    const std::string named = beside("model.best.part");
    const std::string bare = beside("model.part");
    save();
    EXPECT_FALSE(std::filesystem::exists(dead));
    EXPECT_FALSE(std::filesystem::exists(own));
    EXPECT_FALSE(std::filesystem::exists(folder_ + "/stray.json"));
    for (const std::string& kept : {running, other, named, bare}) EXPECT_TRUE(std::filesystem::exists(kept)) << kept;
}

TEST_F(SavedModelFolder, CarriesHuggingFacesNames) {
    save();
    const std::string weights = read_file(folder_ + "/model.safetensors");
    for (const char* name :
         {"model.shared.weight", "model.encoder.layers.1.self_attn.k_proj.bias", "model.decoder.layers.0.fc2.weight",
          "model.decoder.layers.0.encoder_attn.v_proj.weight", "model.decoder.layers.0.encoder_attn_layer_norm.bias",
          "model.encoder.layers.0.final_layer_norm.weight"}) {
        EXPECT_THAT(weights, HasSubstr(std::string("\"") + name + "\":{\"dtype\":\"F32\""));
    }
    EXPECT_THAT(read_file(folder_ + "/config.json"), HasSubstr("MarianMTModel"));
}

TEST_F(SavedModelFolder, APreNormModelIsAPegasus) {
    card_.model.norm = NormPlacement::kPre;
    values_ = initial_values(make_transformer(card_, vocabulary_).parameters(), 5);
    save();
    EXPECT_EQ(load_model(folder_).values, values_);
    EXPECT_THAT(read_file(folder_ + "/config.json"), HasSubstr("PegasusForConditionalGeneration"));
    EXPECT_THAT(read_file(folder_ + "/model.safetensors"), HasSubstr("\"model.encoder.layer_norm.weight\""));
}

TEST_F(SavedModelFolder, EveryTruncationOfTheWeightsIsFound) {
    save();
    const std::string path = folder_ + "/model.safetensors";
    for (auto size = std::filesystem::file_size(path); size > 0;) {
        size = size > 397 ? size - 397 : 0;
        std::filesystem::resize_file(path, size);
        EXPECT_NE(load_message(), "") << size;
    }
}

TEST_F(SavedModelFolder, EveryFlippedBitIsFound) {
    save();
    for (const char* file : {"/model.safetensors", "/config.json", "/vocabulary.json"}) {
        const std::string whole = read_file(folder_ + file);
        for (std::size_t at = 0; at < whole.size(); at += 101) {
            std::string changed = whole;
            changed[at] = static_cast<char>(changed[at] ^ (1 << (at % 7)));
            std::ofstream(folder_ + file) << changed;
            EXPECT_NE(load_message(), "") << file << " byte " << at;
        }
        std::ofstream(folder_ + file) << whole;
    }
    EXPECT_EQ(load_message(), "");
}

TEST_F(SavedModelFolder, AMissingFolderSaysWhatIsExpected) {
    try {
        (void)load_model(root_ + "/nowhere");
        FAIL() << "nothing was thrown";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kInputOutput);
        EXPECT_THAT(error.what(), HasSubstr("not the folder of a saved model"));
    }
}

}  // namespace
}  // namespace duologue
