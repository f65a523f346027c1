// Preprocessing: every format and compression gives the same shards, bad records and full disks leave nothing behind.
#include "preprocess.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "duologue/core/durable_file.h"
#include "duologue/core/error.h"
#include "duologue/data/tokenizer.h"
#include "readers/json_cursor.h"
#include "readers/record_parser.h"
#include "readers/record_reader.h"
#include "support/compress.h"
#include "support/file_size_limit.h"
#include "support/sample_data.h"
#include "support/temporary_folder.h"
#include "vocabulary_builder.h"

namespace duologue::preprocess {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const Log kLog;

PreprocessOptions options_for(std::string input, std::string output) {
    PreprocessOptions options;
    options.inputs = {std::move(input)};
    options.output = std::move(output);
    options.validation_percent = 0;
    return options;
}

/// All turns of the training shards as text, conversations ended by "|".
std::vector<std::string> turns_in(const std::string& folder) {
    const Manifest manifest = Manifest::load(folder);
    const Vocabulary vocabulary = Vocabulary::load(folder + "/vocabulary.json");
    std::vector<std::string> turns;
    for (const ShardEntry& entry : manifest.shards) {
        const Shard shard = Shard::load(folder, manifest, entry);
        for (std::int64_t c = 0; c < shard.conversations(); ++c) {
            for (std::int64_t turn = shard.first_turn(c); turn < shard.first_turn(c + 1); ++turn) {
                turns.push_back(decode(vocabulary, shard.turn(turn)));
            }
            turns.emplace_back("|");
        }
    }
    return turns;
}

std::size_t files_in(const std::string& folder) {
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(folder), {}));
}

/// Runs and returns the error's text; the code must be `code`.
std::string error_of(const PreprocessOptions& options, ErrorCode code) {
    try {
        (void)preprocess(options, kLog);
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), code) << error.what();
        return error.what();
    }
    ADD_FAILURE() << "no error";
    return "";
}

struct FormatCase {
    const char* name;
    const char* text;
};

class Formats : public ::testing::TestWithParam<FormatCase> {};

TEST_P(Formats, AreDetectedAndReadPlainAndCompressed) {
    const TemporaryFolder folder;
    const std::string text = GetParam().text;
    for (const std::string& bytes : {text, "\xef\xbb\xbf" + text, gzip(text), gzip(text) + gzip(" \n"), zstd(text)}) {
        write_file_durably(folder / "in", bytes);
        (void)preprocess(options_for(folder / "in", folder / "out"), kLog);
        EXPECT_THAT(turns_in(folder / "out"),
                    ElementsAre("hi there.", "hello, \u00e9mile!", "bye", "|", "who?", "me", "|"));
    }
    EXPECT_EQ(Manifest::load(folder / "out").sources.at(0).format, std::string(GetParam().name));
}

INSTANTIATE_TEST_SUITE_P(
    All, Formats,
    ::testing::Values(
        FormatCase{"jsonl",
                   "{\"id\": [1, -2.5e3, null, {\"a\": true}], \"turns\": [\"Hi there.\", \"Hello, \\u00c9mile!\", "
                   "\"bye\"]}\n\n{\"turns\": [\"Who?\", \"me\"], \"speakers\": [0, 1]}\r\n"},
        FormatCase{
            "jsonl",
            "{\"messages\": [{\"role\": \"system\", \"content\": \"Be kind\"}, {\"role\": \"user\", \"content\": "
            "\"Hi there.\"}, {\"content\": \"Hello, \u00c9mile!\", \"role\": \"assistant\"}, {\"role\": "
            "\"user\", \"content\": \"bye\"}]}\n{\"turns\": [\"Who?\", \"\", \"me\"]}"},
        FormatCase{"text", "\nHi there.\nHello, \u00c9mile!\r\nbye\n \n\nWho?\nme"},
        FormatCase{"eou", "Hi there. __eou__ Hello, \u00c9mile! __eou__ bye __eou__\nWho?__eou__me\n"},
        FormatCase{"topical-chat",
                   "{\"t_1\": {\"config\": \"B{\", \"content\": [{\"message\": \"Hi there.\", \"agent\": \"a\"},\n"
                   "{\"message\": \"Hello,\", \"agent\": \"b\"}, {\"agent\": \"b\", \"message\": \"\u00c9mile!\"}, "
                   "{\"message\": \"bye\", \"agent\": \"a\"}]},\n \"t_2\": {\"content\": [{\"message\": \"Who?\", "
                   "\"agent\": \"x\"}, {\"message\": \"me\", \"agent\": \"y\"}]}}\n"}));

TEST(Preprocess, AnyNumberOfWorkersGivesTheSameBytes) {
    const TemporaryFolder folder;
    const std::string text = sample_json_lines(20000);
    ASSERT_GT(text.size(), std::size_t{5} << 20);  // several blocks
    write_file_durably(folder / "in.jsonl", text);
    PreprocessOptions options = options_for(folder / "in.jsonl", folder / "one");
    options.validation_percent = 5;
    options.shard_tokens = 200000;
    EXPECT_GT(preprocess(options, kLog).shards.size(), 4U);
    options.output = folder / "three";
    options.workers = 3;
    (void)preprocess(options, kLog);
    for (const auto& entry : std::filesystem::directory_iterator(folder / "one")) {
        const std::string name = entry.path().filename().string();
        EXPECT_EQ(read_file(entry.path().string()), read_file(folder / ("three/" + name))) << name;
    }
    EXPECT_EQ(files_in(folder / "one"), files_in(folder / "three"));
}

TEST(Preprocess, DuplicatesStandOnOneSideOfTheSplit) {
    const TemporaryFolder folder;
    const std::string once = sample_json_lines(300);
    const Manifest single = preprocess_sample(once, folder / "single");
    const Manifest doubled = preprocess_sample(once + once, folder / "doubled");
    EXPECT_GT(single.counts(Split::kValidation).conversations, 10);
    EXPECT_EQ(doubled.counts(Split::kValidation).turns, 2 * single.counts(Split::kValidation).turns);
}

struct BadRecord {
    const char* text;
    const char* reason;
};

class BadRecords : public ::testing::TestWithParam<BadRecord> {};

TEST_P(BadRecords, StopWithFileLineAndReasonOrAreSkipped) {
    const TemporaryFolder folder;
    const std::string good = "{\"turns\": [\"a\", \"b\"]}\n";
    write_file_durably(folder / "in.jsonl", good + "\n" + GetParam().text + "\n" + good);
    PreprocessOptions options = options_for(folder / "in.jsonl", folder / "out");
    options.format = Format::kJsonLines;
    EXPECT_THAT(error_of(options, ErrorCode::kData),
                AllOf(HasSubstr("in.jsonl:3: "), HasSubstr(GetParam().reason), HasSubstr("--on-error skip")));
    EXPECT_FALSE(std::filesystem::exists(folder / "out"));
    options.on_error = OnError::kSkip;
    const Manifest manifest = preprocess(options, kLog);
    EXPECT_EQ(manifest.counts(Split::kTrain).conversations, 2);
    EXPECT_EQ(manifest.sources.at(0).skipped_records, 1);
}

INSTANTIATE_TEST_SUITE_P(
    All, BadRecords,
    ::testing::Values(BadRecord{"{\"turns\": [\"a\", }", "not JSON"}, BadRecord{"{\"turns\": [\"a\"", "not JSON"},
                      BadRecord{"{\"turns\": [\"a\"]} x", "not JSON"},
                      BadRecord{"hello",
                                "not JSON from byte 1 of the record on; each line has to be one JSON object like"},
                      BadRecord{"[]", "not a JSON object"}, BadRecord{"{\"turns\": \"a\"}", "not an array"},
                      BadRecord{"{\"turns\": [1]}", "not a string"}, BadRecord{"{\"text\": [\"a\"]}", "neither"},
                      BadRecord{"{\"turns\": [\"a\", \"b\"], \"speakers\": [1]}", "1 speakers for 2 turns"},
                      BadRecord{"{\"messages\": [{\"role\": \"user\"}]}", "lacks \"content\""},
                      BadRecord{"{\"turns\": [\"a\xff\"]}", "invalid UTF-8 at byte 14"},
                      BadRecord{"{\"turns\": [\"\\ud800\"]}", "not JSON"},
                      BadRecord{"{\"turns\": [\"a\tb\"]}", "not JSON"}));

TEST(Preprocess, ATruncatedTopicalChatFileIsAnErrorNamingTheLine) {
    const TemporaryFolder folder;
    write_file_durably(folder / "in.json",
                       "{\n\"a\": {\"content\": [{\"message\": \"x\", \"agent\": \"a\"}]},\n\"b\": {\"cont");
    EXPECT_THAT(error_of(options_for(folder / "in.json", folder / "out"), ErrorCode::kData),
                AllOf(HasSubstr("in.json:3"), HasSubstr("ends before the closing")));
}

TEST(Preprocess, DamagedCompressedInputIsAnError) {
    const TemporaryFolder folder;
    const std::string text = sample_json_lines(200);
    for (const std::string& whole : {gzip(text), zstd(text)}) {
        write_file_durably(folder / "in", whole.substr(0, whole.size() / 2));
        EXPECT_THAT(error_of(options_for(folder / "in", folder / "out"), ErrorCode::kData),
                    HasSubstr("in the middle of its compressed data"));
    }
}

TEST(Preprocess, MissingAndEmptyInputsAreErrors) {
    const TemporaryFolder folder;
    EXPECT_THAT(error_of(options_for(folder / "none", folder / "out"), ErrorCode::kInputOutput), HasSubstr("none"));
    EXPECT_THAT(error_of(options_for(folder.path(), folder / "out"), ErrorCode::kInputOutput), HasSubstr("not a file"));
    write_file_durably(folder / "empty", "");
    EXPECT_THAT(error_of(options_for(folder / "empty", folder / "out"), ErrorCode::kData),
                HasSubstr("no conversation"));
}

TEST(Preprocess, TextThatSpeaksOfTheEndOfUtteranceMarkIsText) {
    const TemporaryFolder folder;
    write_file_durably(folder / "README.md", "# Formats\n\n| `eou` | turns separated by `__eou__` |\n\nand so on\n");
    EXPECT_EQ(detect_format(folder / "README.md").format, Format::kText);
    write_file_durably(folder / "talk.txt", "Hi. __eou__ Hello! __eou__\n\nBye. __eou__ Bye. __eou__\nalone\n");
    EXPECT_EQ(detect_format(folder / "talk.txt").format, Format::kEndOfUtterance);
}

TEST(Preprocess, AFileWithoutAnyMarkIsNotOfUtterances) {
    const TemporaryFolder folder;
    write_file_durably(folder / "marked", "a __eou__ b\nc\n");  // not every line needs one
    write_file_durably(folder / "plain", "a\nb\n");
    PreprocessOptions options = options_for(folder / "marked", folder / "out");
    options.format = Format::kEndOfUtterance;
    EXPECT_EQ(preprocess(options, kLog).counts(Split::kTrain).conversations, 2);
    options.inputs.push_back(folder / "plain");
    EXPECT_THAT(error_of(options, ErrorCode::kData), HasSubstr("plain' has no __eou__ in it; is --format eou right?"));
}

TEST(Preprocess, AJsonArrayOfObjectsIsNotTakenForText) {
    const TemporaryFolder folder;
    for (const std::string text : {"[{\"turns\": [\"a\", \"b\"]}]", "\n [\r\n  {\"turns\": [\"a\"]}\n]\n"}) {
        for (const std::string& bytes : {text, "\xef\xbb\xbf" + text, gzip(text)}) {
            write_file_durably(folder / "in.json", bytes);
            EXPECT_THAT(error_of(options_for(folder / "in.json", folder / "out"), ErrorCode::kData),
                        AllOf(HasSubstr("in.json': it begins as a JSON array"), HasSubstr("`jq -c '.[]'` makes")));
        }
    }
    PreprocessOptions options = options_for(folder / "in.json", folder / "out");
    options.format = Format::kText;
    EXPECT_EQ(preprocess(options, kLog).counts(Split::kTrain).conversations, 1);
    write_file_durably(folder / "in.json", "[laughs] {hi}\n[bye]\n");
    EXPECT_EQ(detect_format(folder / "in.json").problem, "");
}

TEST(Preprocess, BytesOfAnArchiveAreNotTakenForText) {
    const TemporaryFolder folder;
    const std::string nul(1, '\0');
    for (const std::string& text : {"a\n\nb\nc" + nul + "\n", "a__eou__b\nc __eou__ d\n\xff" + nul + "__eou__\n"}) {
        write_file_durably(folder / "in", text);
        EXPECT_THAT(
            error_of(options_for(folder / "in", folder / "out"), ErrorCode::kData),
            AllOf(HasSubstr(fmt::format("in:{}: is no text: byte ", std::count(text.begin(), text.end(), '\n'))),
                  HasSubstr("is NUL")));
    }
}

TEST(Preprocess, AFullDiskLeavesTheOldDataAsItWas) {
    const TemporaryFolder folder;
    (void)preprocess_sample(sample_json_lines(50), folder / "data");
    const std::string manifest = read_file(folder / "data/manifest.json");
    const std::size_t files = files_in(folder / "data");
    write_file_durably(folder / "big.jsonl", sample_json_lines(5000));
    const PreprocessOptions options = options_for(folder / "big.jsonl", folder / "data");
    for (const rlim_t bytes : {100U, 100000U, 500000U}) {
        const FileSizeLimit limit(bytes);
        (void)error_of(options, ErrorCode::kInputOutput);
    }
    EXPECT_EQ(read_file(folder / "data/manifest.json"), manifest);
    EXPECT_EQ(files_in(folder / "data"), files);
    EXPECT_FALSE(turns_in(folder / "data").empty());
}

TEST(Preprocess, ASmallerSecondRunLeavesNoOldShards) {
    const TemporaryFolder folder;
    (void)preprocess_sample(sample_json_lines(300), folder / "data", 1000);
    write_file_durably(folder / "data/train-00009.h5.77.part", "left by a killed run");
    const Manifest manifest = preprocess_sample(sample_json_lines(20), folder / "data", 1000);
    EXPECT_EQ(files_in(folder / "data"), manifest.shards.size() + 2);
}

TEST(Preprocess, WritesIntoNoFolderThatHoldsAnythingElse) {
    namespace fs = std::filesystem;
    const TemporaryFolder folder;
    write_file_durably(folder / "in", "one two\nthree\n");
    for (const char* name : {"model.safetensors", "metrics.jsonl", "in.txt", "train-00000.h5.x.part", "x.h5"}) {
        (void)preprocess(options_for(folder / "in", folder / "out"), kLog);
        write_file_durably(folder / "out/vocabulary.json", "precious");
        write_file_durably(folder / "out" + "/" + name, "");
        // Before the inputs are looked at.
        EXPECT_THAT(error_of(options_for(folder / "none", folder / "out"), ErrorCode::kInputOutput),
                    HasSubstr(fmt::format("out' holds '{}', which is not of preprocessed data", name)));
        EXPECT_EQ(read_file(folder / "out/vocabulary.json"), "precious");
        fs::remove_all(folder / "out");
    }
    fs::create_directories(folder / "out/train-00000.h5");
    EXPECT_THAT(error_of(options_for(folder / "in", folder / "out"), ErrorCode::kInputOutput),
                HasSubstr("holds 'train-00000.h5'"));
    fs::remove_all(folder / "out");
    fs::create_directories(folder / "out/.hidden");
    write_file_durably(folder / "out/manifest.json.12.part", "left by a killed run");
    EXPECT_EQ(preprocess(options_for(folder / "in", folder / "out"), kLog).shards.size(), 1U);
    EXPECT_EQ(files_in(folder / "out"), 4U);
}

TEST(Preprocess, AFailedRunLeavesNoNewFolder) {
    namespace fs = std::filesystem;
    const TemporaryFolder folder;
    write_file_durably(folder / "bad", "a\xff\n");
    fs::create_directory(folder / "old");
    for (const char* output : {"new", "old/new/newer", "old/new/newer/"}) {
        (void)error_of(options_for(folder / "bad", folder / output), ErrorCode::kData);
    }
    EXPECT_FALSE(fs::exists(folder / "new"));
    EXPECT_TRUE(fs::is_empty(folder / "old"));
}

TEST(Preprocess, AVocabularyCanBeUsedAgain) {
    const TemporaryFolder folder;
    write_file_durably(folder / "first", "one two\nthree\n");
    write_file_durably(folder / "second", "three four\none\n");
    (void)preprocess(options_for(folder / "first", folder / "a"), kLog);
    PreprocessOptions options = options_for(folder / "second", folder / "b");
    options.vocabulary = folder / "a/vocabulary.json";
    const Manifest manifest = preprocess(options, kLog);
    EXPECT_EQ(manifest.vocabulary_hash, Vocabulary::load(options.vocabulary).hash());
    EXPECT_THAT(turns_in(folder / "b"), ElementsAre("three <unk>", "one", "|"));
    EXPECT_EQ(manifest.counts(Split::kTrain).unknown_tokens, 1);
}

TEST(VocabularyBuilder, TakesFrequentWordsAndBreaksTiesByCodePoint) {
    WordCounts counts;
    for (const std::string_view word : {"b", "a", "\u00e9", "z", "z", "c"}) counts.add(word);
    counts.add(std::string(kMaxWordBytes + 1, 'x'));
    VocabularyBuilder builder;
    builder.add(counts);
    const Vocabulary vocabulary = builder.build({}, 8, 1);
    EXPECT_EQ(vocabulary.text(4) + vocabulary.text(5) + vocabulary.text(6) + vocabulary.text(7), "zabc");
    EXPECT_EQ(vocabulary.total_words(), 7U);
    EXPECT_EQ(builder.build({}, 8, 2).size(), 5);
    EXPECT_EQ(builder.count_error(), 0U);
}

TEST(VocabularyBuilder, ForgetsRareWordsWithinTheBoundItStates) {
    constexpr std::size_t kLimit = 1000;
    VocabularyBuilder builder(kLimit);
    for (int block = 0; block < 50; ++block) {
        WordCounts counts;
        for (int i = 0; i < 400; ++i) counts.add(fmt::format("rare{}-{}", block, i));
        for (int i = 0; i < 100; ++i) counts.add(fmt::format("often{}", i));
        builder.add(counts);
        EXPECT_LE(builder.distinct_words(), kLimit);
    }
    EXPECT_GT(builder.count_error(), 0U);
    const Vocabulary vocabulary = builder.build({}, 104, 1);
    for (int i = 0; i < 100; ++i) {
        const std::int32_t id = vocabulary.id(fmt::format("often{}", i));
        ASSERT_NE(id, Vocabulary::kUnknown);
        EXPECT_GE(vocabulary.count(id) + builder.count_error(), 50U);
    }
}

// The quick reader and a full parser must agree on what JSON is.
TEST(JsonCursor, AcceptsExactlyWhatAFullParserAccepts) {
    const std::string seed_text =
        R"({"a":[1,-0.5e+3,true,false,null,"x\u00e9\n\ud83d\ude00"],"b":{"c":{}},"d":[],"e":""})";
    RandomStream random(5);
    const std::string_view alphabet = "{}[]\",:\\u0129eE+-. tfn\x01\x7f";
    int accepted = 0;
    for (int i = 0; i < 20000; ++i) {
        std::string text = seed_text;
        for (std::uint64_t change = random.below(3); change > 0; --change) {
            const auto at = static_cast<std::size_t>(random.below(text.size()));
            if (random.below(2) == 0) {
                text.erase(at, 1);
            } else {
                text[at] = alphabet[static_cast<std::size_t>(random.below(alphabet.size()))];
            }
        }
        JsonCursor cursor(text);
        const bool quick = cursor.skip_value() && cursor.at_end();
        ASSERT_EQ(quick, nlohmann::json::accept(text)) << text;
        accepted += quick ? 1 : 0;
    }
    EXPECT_GT(accepted, 5000);
}

}  // namespace
}  // namespace duologue::preprocess
