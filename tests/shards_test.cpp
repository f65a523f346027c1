// Shards, vocabulary and manifest: what was written is read, and every kind of damage is named.
#include "duologue/data/shards.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "duologue/core/durable_file.h"
#include "duologue/core/error.h"
#include "duologue/data/batches.h"
#include "duologue/data/tokenizer.h"
#include "support/sample_data.h"
#include "support/temporary_folder.h"

namespace duologue {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class Shards : public ::testing::Test {
   protected:
    Shards() : manifest_(preprocess_sample(sample_json_lines(60), path_)) {}

    [[nodiscard]] std::string file(std::string_view name) const { return fmt::format("{}/{}", path_, name); }
    /// Opening the data for training and reading it once must fail with kData and this text.
    void expect_refused(const ::testing::Matcher<const std::string&>& text) const {
        try {
            const auto data = open_training_data({.path = path_}, ModelKind::kEncoderDecoder, 1);
            (void)data->step({}, 1, 0, 1);
            ADD_FAILURE() << "damaged data was accepted";
        } catch (const Error& error) {
            EXPECT_EQ(error.code(), ErrorCode::kData) << error.what();
            EXPECT_THAT(std::string(error.what()), text);
        }
    }

    TemporaryFolder folder_;
    std::string path_ = folder_ / "data";
    Manifest manifest_;
};

TEST_F(Shards, HoldTheWordsOfTheInput) {
    const TemporaryFolder folder;
    const Manifest manifest = preprocess_sample(
        "{\"turns\": [\"Hello, you!\", \"Hi.\", \"How are you?\"], \"speakers\": [\"x\", \"y\", \"y\"]}\n",
        folder / "d");
    const Vocabulary vocabulary = Vocabulary::load(folder / "d/vocabulary.json");
    ASSERT_EQ(manifest.shards.size(), 1U);
    const Shard shard = Shard::load(folder / "d", manifest, manifest.shards[0]);
    EXPECT_EQ(shard.conversations(), 1);
    ASSERT_EQ(shard.turns(), 2);  // two turns of one speaker are one
    EXPECT_EQ(decode(vocabulary, shard.turn(0)), "hello, you!");
    EXPECT_EQ(decode(vocabulary, shard.turn(1)), "hi. how are you?");
    EXPECT_EQ(shard.speaker(0), 0);
    EXPECT_EQ(shard.speaker(1), 1);
}

TEST_F(Shards, ManifestSurvivesItsFile) {
    const Manifest copy = Manifest::parse(manifest_.serialize(), "memory");
    EXPECT_EQ(copy.serialize(), manifest_.serialize());
    EXPECT_EQ(copy.counts(Split::kTrain), manifest_.counts(Split::kTrain));
}

TEST_F(Shards, ATruncatedShardIsRefused) {
    const std::string whole = read_file(file("train-00000.h5"));
    for (const std::size_t percent : {0U, 1U, 50U, 99U}) {
        write_file_durably(file("train-00000.h5"), whole.substr(0, whole.size() * percent / 100));
        expect_refused(HasSubstr("train-00000.h5"));
    }
}

TEST_F(Shards, AnyFlippedBitInAShardIsRefused) {
    const std::string whole = read_file(file("train-00000.h5"));
    for (std::size_t i = 0; i < 60; ++i) {
        std::string flipped = whole;
        const std::size_t at = i < 20 ? i * 11 : whole.size() * (i - 20) / 40;  // the header densely, the rest evenly
        flipped[at] = static_cast<char>(flipped[at] ^ (1 << (i % 8)));
        write_file_durably(file("train-00000.h5"), flipped);
        expect_refused(HasSubstr("train-00000.h5"));
    }
}

TEST_F(Shards, AShardOfOtherDataIsRefusedWithBothValues) {
    const Manifest other = preprocess_sample(sample_json_lines(70, 9), folder_ / "other");
    std::filesystem::copy_file(folder_ / "other/train-00000.h5", file("train-00000.h5"),
                               std::filesystem::copy_options::overwrite_existing);
    expect_refused(AllOf(HasSubstr("vocabulary hash"), HasSubstr(other.vocabulary_hash),
                         HasSubstr(manifest_.vocabulary_hash), HasSubstr("train-00000.h5")));
}

TEST_F(Shards, AVocabularyOfOtherDataIsRefusedWithBothValues) {
    const Manifest other = preprocess_sample(sample_json_lines(70, 9), folder_ / "other");
    std::filesystem::copy_file(folder_ / "other/vocabulary.json", file("vocabulary.json"),
                               std::filesystem::copy_options::overwrite_existing);
    expect_refused(AllOf(HasSubstr(other.vocabulary_hash), HasSubstr(manifest_.vocabulary_hash)));
}

TEST_F(Shards, AnotherSchemaVersionIsRefusedWithBothValues) {
    std::string text = read_file(file("manifest.json"));
    text.replace(text.find("\"version\": 1"), 12, "\"version\": 8");
    write_file_durably(file("manifest.json"), text);
    expect_refused(AllOf(HasSubstr("version is 8"), HasSubstr("version 1"), HasSubstr("manifest.json")));
}

TEST_F(Shards, ADamagedManifestIsRefused) {
    const std::string whole = read_file(file("manifest.json"));
    std::string changed = whole;
    const std::size_t at = changed.find("\"tokens\": ") + 10;
    changed[at] = changed[at] == '9' ? '8' : static_cast<char>(changed[at] + 1);
    for (const std::string& text : {changed, whole.substr(0, whole.size() / 2), std::string("[]"), std::string()}) {
        write_file_durably(file("manifest.json"), text);
        expect_refused(HasSubstr("manifest.json"));
    }
}

TEST_F(Shards, MissingFilesAreNamed) {
    for (const std::string_view name : {"train-00000.h5", "vocabulary.json", "manifest.json"}) {
        std::filesystem::remove(file(name));
        try {
            (void)open_training_data({.path = path_}, ModelKind::kEncoderDecoder, 1);
            ADD_FAILURE() << name << " was not missed";
        } catch (const Error& error) {
            EXPECT_EQ(error.code(), ErrorCode::kInputOutput);
            EXPECT_THAT(error.what(), HasSubstr(std::string(name)));
        }
    }
}

}  // namespace
}  // namespace duologue
