// Inspection: what is said about data is what is in them; damage is told; examples are those that are trained on.
#include "duologue/data/inspection.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "duologue/core/durable_file.h"
#include "support/sample_data.h"
#include "support/temporary_folder.h"

namespace duologue {
namespace {

using testing::HasSubstr;

class Inspections : public testing::Test {
   protected:
    Inspections() : manifest_(preprocess_sample(sample_json_lines(80), path_)) {}
    [[nodiscard]] std::string file(const std::string& name) const { return path_ + "/" + name; }

    TemporaryFolder folder_;
    std::string path_ = folder_ / "data";
    Manifest manifest_;
};

TEST_F(Inspections, TellADataFoldersCountsAndHash) {
    const InspectedData found = inspect_data(path_);
    EXPECT_TRUE(found.problems.empty());
    EXPECT_EQ(found.report.at("vocabulary_hash"), manifest_.vocabulary_hash);
    EXPECT_EQ(found.report.at("train").at("tokens"), manifest_.counts(Split::kTrain).tokens);
    EXPECT_EQ(found.report.at("shards").size(), manifest_.shards.size());
}

TEST_F(Inspections, FindEachDamagedShard) {
    const std::string name = manifest_.shards.at(1).file;
    std::string bytes = read_file(file(name));
    bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 4);
    write_file_durably(file(name), bytes);
    const InspectedData found = inspect_data(path_);
    ASSERT_EQ(found.problems.size(), 1U);
    EXPECT_THAT(found.problems[0], HasSubstr(name));
    EXPECT_EQ(found.report.at("shards").at(0).at("state"), "valid");
    EXPECT_EQ(found.report.at("shards").at(1).at("state"), "damaged");
}

TEST_F(Inspections, ReadAShardWithoutItsManifest) {
    const ShardEntry& entry = manifest_.shards.at(0);
    const std::string alone = folder_ / "alone.h5";
    std::filesystem::copy_file(file(entry.file), alone);
    const InspectedShard found = inspect_shard(alone);
    EXPECT_FALSE(found.listed);
    EXPECT_EQ(found.header.entry.counts, entry.counts);
    EXPECT_EQ(found.header.entry.checksum, entry.checksum);
    EXPECT_EQ(found.header.sources, std::vector<std::string>{"data-input.jsonl"});
    EXPECT_TRUE(inspect_shard(file(entry.file)).listed);
}

TEST_F(Inspections, RefuseAShardThatItsManifestDoesNotKnow) {
    std::filesystem::copy_file(file(manifest_.shards.at(0).file), file("stray.h5"));
    try {
        (void)inspect_shard(file("stray.h5"));
        FAIL() << "nothing was thrown";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kData);
        EXPECT_THAT(error.what(), HasSubstr("not listed"));
    }
}

class Conversations : public testing::Test {
   protected:
    static constexpr const char* kText = R"({"turns": ["Hello there", "Hi, you", "Fine"]})"
                                         "\n";
    Conversations() : manifest_(preprocess_sample(kText, path_)) {}
    [[nodiscard]] Report describe(const DataConfig& config, ModelKind kind) const {
        const Shard shard = Shard::load(path_, manifest_, manifest_.shards.at(0));
        return describe_conversation(shard, 0, Vocabulary::load(path_ + "/vocabulary.json"), config, kind);
    }
    TemporaryFolder folder_;
    std::string path_ = folder_ / "data";
    Manifest manifest_;
};

TEST_F(Conversations, ShowEveryReplyAfterItsContext) {
    const Report report = describe({}, ModelKind::kEncoderDecoder);
    EXPECT_EQ(report.at("turns").at(1).at("text"), "hi, you");
    ASSERT_EQ(report.at("examples").size(), 2U);
    EXPECT_EQ(report.at("examples").at(0).at("source"), "hello there <eos>");
    EXPECT_EQ(report.at("examples").at(0).at("target"), "hi , you <eos>");
    EXPECT_EQ(report.at("examples").at(1).at("source"), "hello there <eos> hi , you <eos>");
    EXPECT_EQ(report.at("examples").at(1).at("target"), "fine <eos>");
}

TEST_F(Conversations, ShowTheContextThatTheConfigurationLeaves) {
    const Report report = describe({.max_context_tokens = 4}, ModelKind::kEncoderDecoder);
    EXPECT_EQ(report.at("examples").at(1).at("source"), "hi , you <eos>");
}

TEST_F(Conversations, BracketWhatAStreamReadsButIsNotToSay) {
    const Report report = describe({}, ModelKind::kDecoderOnly);
    ASSERT_EQ(report.at("examples").size(), 1U);
    EXPECT_EQ(report.at("examples").at(0).at("target"), "hello there <eos> [<sos>] hi , you <eos> [<sos>] fine <eos>");
}

TEST_F(Conversations, ThatAreNotThereAreRefusedWithTheirRange) {
    const Shard shard = Shard::load(path_, manifest_, manifest_.shards.at(0));
    const Vocabulary vocabulary = Vocabulary::load(path_ + "/vocabulary.json");
    EXPECT_THROW((void)describe_conversation(shard, 1, vocabulary, {}, ModelKind::kEncoderDecoder), Error);
}

}  // namespace
}  // namespace duologue
