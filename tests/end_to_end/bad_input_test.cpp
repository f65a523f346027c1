// Files that are damaged, missing or foreign, options that cannot be, disks that are full: clear words, the right
// status.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "data/hdf5_file.h"
#include "end_to_end/sample.h"
#include "support/job.h"

namespace duologue {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;

enum class Damage : std::uint8_t { kTruncated, kFlippedBits, kEmpty, kMissing };

const char* name_of(Damage damage) {
    constexpr std::array kNames{"Truncated", "WithFlippedBits", "Empty", "Missing"};
    return kNames[static_cast<std::size_t>(damage)];
}

void do_damage(const std::string& path, Damage damage) {
    std::string content = read_file(path);
    if (damage == Damage::kMissing) {
        fs::remove(path);
        return;
    }
    if (damage == Damage::kTruncated) content.resize(content.size() * 2 / 3);
    if (damage == Damage::kEmpty) content.clear();
    // Every few bytes: some place of a large file means nothing, and a bit flipped there is no damage.
    for (std::size_t at = 100; at < content.size() && damage == Damage::kFlippedBits; at += 499) content[at] ^= 4;
    write_file_durably(path, content);
}

/// A file, and a command that reads it; {} stands for the folder in which both are.
struct Reading {
    const char* name;
    const char* folder;  ///< of the sample, copied
    const char* file;    ///< in it
    std::string command;
};

class DamagedFile : public testing::TestWithParam<std::tuple<Reading, Damage>> {};

TEST_P(DamagedFile, IsNamedAndEverythingElseIsLeftAsItWas) {
    const auto& [reading, damage] = GetParam();
    const TemporaryFolder folder;
    copy_sample(reading.folder, folder / reading.folder);
    const std::string path = fmt::format("{}/{}/{}", folder.path(), reading.folder, reading.file);
    do_damage(path, damage);
    const auto before = contents_of(folder / reading.folder);
    const Outcome outcome = run(fmt::format(fmt::runtime(reading.command), folder.path()));
    EXPECT_EQ(outcome.status, damage == Damage::kMissing ? 4 : 3) << outcome.output;
    EXPECT_THAT(outcome.output, ContainsRegex("error: .*" + fs::path(reading.file).filename().string()));
    EXPECT_LT(outcome.seconds, 30.0);
    EXPECT_TRUE(contents_of(folder / reading.folder) == before);
}

INSTANTIATE_TEST_SUITE_P(
    Each, DamagedFile,
    testing::Combine(
        testing::Values(
            Reading{"Shard", "data", "train-00003.h5", train_on(2, "{0}/run", "--data.path={0}/data")},
            Reading{"ValidationShard", "data", "validation-00000.h5", train_on(2, "{0}/run", "--data.path={0}/data")},
            Reading{"Vocabulary", "data", "vocabulary.json", train_on(2, "{0}/run", "--data.path={0}/data")},
            Reading{"Manifest", "data", "manifest.json", train_on(2, "{0}/run", "--data.path={0}/data")},
            Reading{
                "UsedVocabulary", "data", "vocabulary.json",
                kPreprocess + " " + kSample + "/corpus.jsonl --output {0}/new --vocabulary {0}/data/vocabulary.json"},
            Reading{"Checkpoint", "run", "checkpoints/step-000000060.h5",
                    kDuologue + " export --checkpoint {0}/run/checkpoints/step-000000060.h5 --output {0}/model"},
            Reading{"Weights", "run", "model/model.safetensors", kDuologue + " chat {0}/run/model --prompt hello"},
            Reading{"ModelConfig", "run", "model/config.json", kDuologue + " chat {0}/run/model --prompt hello"},
            Reading{"ModelVocabulary", "run", "model/vocabulary.json",
                    kDuologue + " chat {0}/run/model --prompt hello"}),
        testing::Values(Damage::kTruncated, Damage::kFlippedBits, Damage::kEmpty, Damage::kMissing)),
    [](const auto& test) {
        return fmt::format("{}{}", std::get<0>(test.param).name, name_of(std::get<1>(test.param)));
    });

class Checkpoints : public testing::Test {
   protected:
    void SetUp() override { copy_sample("run", run_); }
    void expect_refusal(const std::string& more, int status, const std::string& regex) {
        const auto before = contents_of(run_);
        const Outcome outcome = run(train_on(2, run_, more));
        EXPECT_EQ(outcome.status, status) << outcome.output;
        EXPECT_THAT(outcome.output, ContainsRegex(regex));
        EXPECT_LT(outcome.seconds, 30.0);
        EXPECT_TRUE(contents_of(run_) == before);
    }

    TemporaryFolder folder_;
    std::string run_ = folder_ / "run";
};

class DamagedCheckpoint : public Checkpoints, public testing::WithParamInterface<Damage> {};

TEST_P(DamagedCheckpoint, IsReportedAndTheNewestWholeOneWins) {
    do_damage(run_ + "/checkpoints/step-000000060.h5", GetParam());
    fs::remove_all(run_ + "/model");
    const Outcome outcome = run(train_on(2, run_));
    ASSERT_EQ(outcome.status, 0) << outcome.output;
    EXPECT_THAT(outcome.output, HasSubstr("warning: passing over a checkpoint: '" + run_));
    EXPECT_THAT(outcome.output, ContainsRegex("going on from '.*step-0000000[2345].*h5'"));
    EXPECT_TRUE(read_file(run_ + "/model/model.safetensors") == final_model());
}

INSTANTIATE_TEST_SUITE_P(Each, DamagedCheckpoint,
                         testing::Values(Damage::kTruncated, Damage::kFlippedBits, Damage::kEmpty),
                         [](const auto& test) { return name_of(test.param); });

TEST_F(Checkpoints, AllDamagedAreNotSilentlyBegunAnew) {
    for (const auto& entry : fs::directory_iterator(run_ + "/checkpoints")) {
        do_damage(entry.path().string(), Damage::kTruncated);
    }
    expect_refusal("", 3, "each of the [0-9]+ checkpoints in '.*' is damaged");
}

TEST_F(Checkpoints, OfAnotherVocabularyAreRefusedNamingBoth) {
    expect_refusal("--data.path=" + kSample + "/other_words", 3,
                   "was trained with the vocabulary [0-9a-f]{16}, the data has [0-9a-f]{16}");
}

TEST_F(Checkpoints, OfOtherDataAreRefusedNamingBoth) {
    expect_refusal("--data.path=" + kSample + "/other_data", 3,
                   "stands at a position in the data [0-9a-f]{16}, data.path now holds [0-9a-f]{16}");
}

TEST_F(Checkpoints, OfAnotherShapeAreRefusedNamingBoth) {
    expect_refusal("--model.hidden=96", 2,
                   "holds .*fc2.weight of 32 x 64 at .* the configured model has .*fc2.weight of 32 x 96 at");
}

TEST_F(Checkpoints, OfAnotherSchemaVersionAreRefusedNamingBoth) {
    Hdf5File file = Hdf5File::create(run_ + "/checkpoints/step-000000061.h5");
    file.write_attribute("format", "duologue checkpoint");
    file.write_attribute("schema_version", std::int64_t{99});
    file.close();
    expect_refusal("", 3, "step-000000061.h5' has schema version 99, this program reads 1");
}

TEST_F(Checkpoints, AreNotOverwrittenByARunThatShallNotResume) {
    expect_refusal("--checkpoint.resume=never", 2, "checkpoint.resume is never, but '.*step-000000060.h5' is there");
}

/// What follows `duologue`, {0} being the sample and {1} a folder of the test's own.
struct BadCommand {
    const char* name;
    const char* arguments;
    int status;
    const char* says;
};

class Refused : public testing::TestWithParam<BadCommand> {};

TEST_P(Refused, SaysWhyAndDoesNothing) {
    const TemporaryFolder folder;
    write_file_durably(folder / "unknown.json", R"({"train": {"lerning_rate": 1}})");
    write_file_durably(folder / "broken.json", R"({"train": {"steps": 1)");
    const BadCommand& bad = GetParam();
    const Outcome outcome =
        run(fmt::format("{} {}", kDuologue, fmt::format(fmt::runtime(bad.arguments), kSample, folder.path())));
    EXPECT_EQ(outcome.status, bad.status) << outcome.output;
    EXPECT_THAT(outcome.output, HasSubstr(bad.says));
    EXPECT_FALSE(fs::exists(folder / "run/checkpoints"));
}

INSTANTIATE_TEST_SUITE_P(
    Each, Refused,
    testing::Values(BadCommand{"UnknownCommand", "trian", 2, "Did you mean train?"},
                    BadCommand{"UnknownKeyInFile", "train --config {1}/unknown.json --output.path={1}/run", 2,
                               "train.learning_rate"},
                    BadCommand{"BrokenFile", "train --config {1}/broken.json --output.path={1}/run", 2, "broken.json"},
                    BadCommand{"MissingFile", "train --config {1}/none.json --output.path={1}/run", 4, "none.json"},
                    BadCommand{"NoData", "train --output.path={1}/run", 2, "data.path is not set"},
                    BadCommand{"MissingData", "train --data.path={1}/none --output.path={1}/run", 4, "none"},
                    BadCommand{"ModelThatIsNone", "chat {1} --prompt hello", 4, "not the folder of a saved model"},
                    BadCommand{"EvaluateWithoutModel", "evaluate {1}/none --data={1}/none", 4, "none"},
                    BadCommand{"ExportOfNothing", "export --checkpoint {1}/none.h5 --output {1}/model", 4, "none.h5"}),
    [](const auto& test) { return test.param.name; });

TEST(Output, IsNotWrittenIntoASavedModelOrPreprocessedData) {
    const TemporaryFolder folder;
    copy_sample("run/model", folder / "model");
    copy_sample("data", folder / "data");
    for (const char* name : {"model", "data"}) {
        const auto before = contents_of(folder / name);
        const Outcome outcome = run(train(folder / name));
        EXPECT_EQ(outcome.status, 4) << outcome.output;
        EXPECT_THAT(outcome.output, HasSubstr("is a saved model or preprocessed data; name another"));
        EXPECT_EQ(contents_of(folder / name), before);
    }
}

TEST(Output, ThatAFullDiskHasSwallowedIsAnError) {
    const Outcome outcome = run(kDuologue + " inspect " + kSample + "/run/model >/dev/full");
    EXPECT_EQ(outcome.status, 4) << outcome.output;
    EXPECT_THAT(outcome.output, HasSubstr("could not all be written"));
}

/// One option too many for a run that could begin.
struct BadOption {
    const char* name;
    const char* option;
    int status;
    const char* says;
};

class BadOptions : public testing::TestWithParam<BadOption> {};

TEST_P(BadOptions, AreRefusedBeforeAnythingIsTrained) {
    const TemporaryFolder folder;
    const BadOption& bad = GetParam();
    const Outcome outcome = run(train(folder / "run", bad.option));
    EXPECT_EQ(outcome.status, bad.status) << outcome.output;
    EXPECT_THAT(outcome.output, HasSubstr(bad.says));
    EXPECT_FALSE(fs::exists(folder / "run/checkpoints"));
}

INSTANTIATE_TEST_SUITE_P(
    Each, BadOptions,
    testing::Values(
        BadOption{"UnknownKey", "--train.lerning_rate=1", 2, "train.learning_rate"},
        BadOption{"NotANumber", "--train.epochs=many", 2, "--train.epochs is 'many', not an integer"},
        BadOption{"Negative", "--train.steps=-5", 2, "-5"},
        BadOption{"NotAmongTheChoices", "--device.kind=gpu", 2, "--device.kind is 'gpu', not auto or cpu or cuda."},
        BadOption{"WidthThatHeadsDoNotDivide", "--model.heads=3", 2, "model.heads"},
        BadOption{"DropoutAboveOne", "--model.dropout=1.5", 2, "model.dropout"},
        BadOption{"ContextThatFitsNoMicroBatch", "--data.micro_batch_tokens=8", 2, "data.micro_batch_tokens = 8"},
        BadOption{"EpochsBesideSteps", "--train.epochs=2", 2, "add --train.steps=0"},
        BadOption{"NoEnd", "--train.steps=0 --train.epochs=0", 2, "say how long to train"},
        BadOption{"MoreMemoryThanThereIs", "--model.width=65536 --model.hidden=1048576 --model.encoder_layers=1024", 5,
                  "bytes of memory failed"},
        BadOption{"MissingPrompts", "--chat.prompts=none.txt", 4, "none.txt"},
        BadOption{"OutputThatIsNoFolder", "--output.path=/dev/null/run", 4, "/dev/null/run"}),
    [](const auto& test) { return test.param.name; });

TEST(Ranks, LetTheFirstSayThatTheirCommandLineIsWrong) {
    const TemporaryFolder folder;
    for (const char* more : {"--train.lerning_rate=1", "--train.epochs=many", "too_much"}) {
        const Outcome outcome = run(train_on(2, folder / "run", more));
        EXPECT_EQ(outcome.status, 2) << outcome.output;
        const std::size_t first = outcome.output.find("error: ");
        ASSERT_NE(first, std::string::npos) << outcome.output;
        EXPECT_EQ(outcome.output.find("error: ", first + 1), std::string::npos) << outcome.output;
    }
}

TEST(Ranks, ThatCannotShareTheMicroBatchesAreToldWhatTheyCan) {
    const TemporaryFolder folder;
    const Outcome outcome = run(train_on(3, folder / "run"));
    EXPECT_EQ(outcome.status, 2) << outcome.output;
    EXPECT_THAT(outcome.output, HasSubstr("set a multiple of 3, for example 9"));
}

class FullDisk : public Checkpoints {
   protected:
    void SetUp() override {
        Checkpoints::SetUp();
        fs::remove_all(run_);  // but one checkpoint
        copy_sample("run/checkpoints/step-000000040.h5", run_ + "/checkpoints/step-000000040.h5");
    }
};

TEST_F(FullDisk, EndsTheJobAndCostsNoCheckpoint) {
    const std::string disk = folder_ / "disk";
    fs::create_directories(disk);
    // Room for what is there and for half a checkpoint more.
    const std::uintmax_t bytes = fs::file_size(run_ + "/checkpoints/step-000000040.h5") * 3 / 2;
    const Outcome outcome = run(fmt::format(
        "exec unshare --mount --map-root-user sh -c 'mount -t tmpfs -o size={} none {} && cp -r {} {}/run || exit 99; "
        "{}; "
        "status=$?; find {}/run -type f; cat {}/run/checkpoints/*.h5 | cmp - {}/checkpoints/step-000000040.h5 && exit "
        "$status'",
        bytes, disk, run_, disk, train_on(2, disk + "/run").substr(5), disk, disk, run_));
    ASSERT_NE(outcome.status, 99) << "this test mounts a small disk: it needs to be root or user namespaces\n"
                                  << outcome.output;
    EXPECT_EQ(outcome.status, 4) << outcome.output;
    EXPECT_THAT(outcome.output, ContainsRegex("error: .*/disk/run/checkpoints/step-.*is the disk full"));
    EXPECT_THAT(outcome.output, testing::Not(HasSubstr(".part\n")));
}

TEST_F(FullDisk, OrAFileSizeLimitIsAnErrorOfEveryWriter) {
    const std::string limited = "ulimit -f 200; exec ";  // blocks of 512 bytes; mpirun itself needs more
    const Outcome trained = run(limited + train(run_));
    EXPECT_EQ(trained.status, 4) << trained.output;
    EXPECT_THAT(trained.output, ContainsRegex("error: .*/checkpoints/step-"));
    const Outcome exported = run(limited + fmt::format("{} export --checkpoint {}/run/checkpoints/"
                                                       "step-000000060.h5 --output {}",
                                                       kDuologue, kSample, folder_ / "model"));
    EXPECT_EQ(exported.status, 4) << exported.output;
    EXPECT_FALSE(fs::exists(folder_ / "model"));
    const Outcome preprocessed =
        run(limited + fmt::format("{} {}/corpus.jsonl --output {}", kPreprocess, kSample, folder_ / "data"));
    EXPECT_EQ(preprocessed.status, 4) << preprocessed.output;
    EXPECT_FALSE(fs::exists(folder_ / "data"));
    EXPECT_EQ(fs::file_size(run_ + "/checkpoints/step-000000040.h5"),
              fs::file_size(kSample + "/run/checkpoints/step-000000040.h5"));
}

}  // namespace
}  // namespace duologue
