// Checkpoints: what is written is read; damage, foreign content and full disks are told apart and lose nothing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "data/hdf5_file.h"
#include "duologue/core/durable_file.h"
#include "duologue/core/error.h"
#include "duologue/core/random.h"
#include "duologue/train/checkpoint.h"
#include "support/temporary_folder.h"

namespace duologue {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

Checkpoint sample(std::int64_t step, std::optional<double> loss = std::nullopt) {
    Checkpoint checkpoint{.summary = {.step = step,
                                      .skipped_steps = 2,
                                      .position = {.epoch = 3, .examples = 4567},
                                      .validation_loss = loss,
                                      .vocabulary_hash = "0123456789abcdef",
                                      .data_checksum = "fedcba9876543210",
                                      .config = R"({"train":{"epochs":7}})",
                                      .shapes = {{"a.weight", 30, 40, 0}, {"a.bias", 1, 40, 1216}}},
                          .vocabulary = R"({"words":[]})",
                          .values = std::vector<float>(1280),
                          .first = std::vector<float>(1280),
                          .second = std::vector<float>(1280)};
    RandomStream random(static_cast<std::uint64_t>(step));
    for (auto* values : {&checkpoint.values, &checkpoint.first, &checkpoint.second}) {
        for (float& value : *values) value = static_cast<float>(random.normal());
    }
    return checkpoint;
}

CheckpointDemands demands_of(const Checkpoint& checkpoint) {
    return {.vocabulary_hash = checkpoint.summary.vocabulary_hash,
            .data_checksum = checkpoint.summary.data_checksum,
            .shapes = checkpoint.summary.shapes};
}

void expect_same(const Checkpoint& actual, const Checkpoint& expected) {
    EXPECT_EQ(actual.summary.step, expected.summary.step);
    EXPECT_EQ(actual.summary.skipped_steps, expected.summary.skipped_steps);
    EXPECT_EQ(actual.summary.position, expected.summary.position);
    EXPECT_EQ(actual.summary.validation_loss, expected.summary.validation_loss);
    EXPECT_EQ(actual.summary.vocabulary_hash, expected.summary.vocabulary_hash);
    EXPECT_EQ(actual.summary.data_checksum, expected.summary.data_checksum);
    EXPECT_EQ(actual.summary.config, expected.summary.config);
    EXPECT_EQ(actual.summary.shapes, expected.summary.shapes);
    EXPECT_EQ(actual.vocabulary, expected.vocabulary);
    EXPECT_EQ(actual.values, expected.values);
    EXPECT_EQ(actual.first, expected.first);
    EXPECT_EQ(actual.second, expected.second);
}

// The message of the Error that `action` throws with `code`.
template <class Action>
std::string error_of(ErrorCode code, const Action& action) {
    try {
        action();
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), code) << error.what();
        return error.what();
    }
    ADD_FAILURE() << "no error";
    return "";
}

void overwrite(const std::string& path, const std::string& content) {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
}

class CheckpointTest : public testing::Test {
   protected:
    [[nodiscard]] std::string file() const { return temporary / "one.h5"; }
    [[nodiscard]] std::vector<std::string> names() const {
        std::vector<std::string> found;
        for (const auto& entry : fs::directory_iterator(temporary.path())) found.push_back(entry.path().filename());
        std::sort(found.begin(), found.end());
        return found;
    }
    TemporaryFolder temporary;
    Log log;
};

TEST_F(CheckpointTest, WhatIsWrittenIsReadBitForBit) {
    const Checkpoint written = sample(12, 1.0 / 3.0);
    write_checkpoint(file(), written);
    expect_same(read_checkpoint(file()), written);
    EXPECT_EQ(read_checkpoint_summary(file()).shapes, written.summary.shapes);
    EXPECT_THAT(names(), ElementsAre("one.h5"));
}

TEST_F(CheckpointTest, ATruncatedFileIsRefusedAtEveryLength) {
    write_checkpoint(file(), sample(12));
    const std::string whole = read_file(file());
    for (std::size_t length = 0; length < whole.size(); length += 1 + length / 7) {
        overwrite(file(), whole.substr(0, length));
        EXPECT_THROW((void)read_checkpoint(file()), Error) << "cut to " << length << " of " << whole.size();
    }
}

TEST_F(CheckpointTest, AFlippedBitIsFoundOrHarmless) {
    const Checkpoint written = sample(12, 0.5);
    write_checkpoint(file(), written);
    const std::string whole = read_file(file());
    RandomStream random(1);
    int found = 0;
    constexpr int kFlips = 150;
    for (int i = 0; i < kFlips; ++i) {
        std::string damaged = whole;
        damaged[random.below(damaged.size())] ^= static_cast<char>(1 << random.below(8));
        overwrite(file(), damaged);
        try {
            expect_same(read_checkpoint(file()), written);
        } catch (const Error&) {
            ++found;
        }
    }
    EXPECT_GT(found, kFlips / 4);  // the rest fell into unused space
}

TEST_F(CheckpointTest, AFullDiskLeavesTheOldFileAndNoTemporaryOne) {
    const Checkpoint old = sample(12);
    write_checkpoint(file(), old);
    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
    auto* handler = std::signal(SIGXFSZ, SIG_IGN);
    for (const rlim_t bytes : {0UL, 100UL, 5000UL, 12000UL}) {
        const rlimit small{.rlim_cur = bytes, .rlim_max = before.rlim_max};
        ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
        const std::string message = error_of(ErrorCode::kInputOutput, [&] { write_checkpoint(file(), sample(13)); });
        ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
        EXPECT_THAT(message, HasSubstr("one.h5"));
        EXPECT_THAT(names(), ElementsAre("one.h5"));
        expect_same(read_checkpoint(file()), old);
    }
    std::signal(SIGXFSZ, handler);
}

TEST_F(CheckpointTest, TheNewestWholeOneWinsAndDamageIsReported) {
    const CheckpointFolder folder(temporary.path());
    for (const std::int64_t step : {10, 20, 30}) folder.save(sample(step), 5);
    const std::string whole = read_file(folder.file_of(30));
    overwrite(folder.file_of(30), whole.substr(0, whole.size() / 2));
    testing::internal::CaptureStderr();
    const auto newest = folder.newest(demands_of(sample(20)), log);
    EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("step-000000030.h5"));
    ASSERT_TRUE(newest);
    expect_same(*newest, sample(20));
}

TEST_F(CheckpointTest, WithoutAnyWholeOneTheRunDoesNotBeginAnew) {
    const CheckpointFolder folder(temporary.path());
    EXPECT_FALSE(folder.newest(demands_of(sample(1)), log));
    folder.save(sample(10), 5);
    overwrite(folder.file_of(10), "nothing");
    testing::internal::CaptureStderr();
    EXPECT_THAT(error_of(ErrorCode::kData, [&] { (void)folder.newest(demands_of(sample(1)), log); }),
                HasSubstr("each of the 1 checkpoints"));
    (void)testing::internal::GetCapturedStderr();
}

TEST_F(CheckpointTest, AKilledWritersFileIsNeitherReadNorKept) {
    const CheckpointFolder folder(temporary.path());
    folder.save(sample(10), 5);
    fs::copy(folder.file_of(10), folder.file_of(20) + ".4711.part");
    EXPECT_THAT(folder.steps(), ElementsAre(10));
    folder.remove_unfinished();
    EXPECT_THAT(names(), ElementsAre("step-000000010.h5"));
}

TEST_F(CheckpointTest, TheLastAndTheBestAreKept) {
    const CheckpointFolder folder(temporary.path());
    const std::vector<double> losses{5.0, 3.0, 4.0, 4.5, 6.0};
    for (std::size_t i = 0; i < losses.size(); ++i) folder.save(sample(static_cast<std::int64_t>(i) + 1, losses[i]), 2);
    EXPECT_THAT(folder.steps(), ElementsAre(2, 4, 5));
}

TEST_F(CheckpointTest, AnotherVocabularyDataOrShapeIsRefusedNamingBoth) {
    const CheckpointFolder folder(temporary.path());
    folder.save(sample(10), 5);
    const CheckpointDemands fitting = demands_of(sample(10));
    const auto refusal = [&](ErrorCode code, const CheckpointDemands& demands) {
        return error_of(code, [&] { (void)folder.newest(demands, log); });
    };
    CheckpointDemands demands = fitting;
    demands.vocabulary_hash = "1111";
    EXPECT_THAT(refusal(ErrorCode::kData, demands), AllOf(HasSubstr("0123456789abcdef"), HasSubstr("1111")));
    demands = fitting;
    demands.data_checksum = "2222";
    EXPECT_THAT(refusal(ErrorCode::kData, demands), AllOf(HasSubstr("fedcba9876543210"), HasSubstr("2222")));
    demands = fitting;
    demands.shapes[0].columns = 48;
    EXPECT_THAT(refusal(ErrorCode::kConfiguration, demands),
                AllOf(HasSubstr("a.weight of 30 x 40"), HasSubstr("a.weight of 30 x 48")));
    demands = fitting;
    demands.shapes.pop_back();
    EXPECT_THAT(refusal(ErrorCode::kConfiguration, demands), AllOf(HasSubstr("2 parameter"), HasSubstr("has 1")));
}

TEST_F(CheckpointTest, AnotherSchemaVersionIsRefusedNamingBoth) {
    const CheckpointFolder folder(temporary.path());
    Hdf5File later = Hdf5File::create(folder.file_of(10));
    later.write_attribute("format", "duologue checkpoint");
    later.write_attribute("schema_version", 99);
    later.close();
    EXPECT_THAT(error_of(ErrorCode::kData, [&] { (void)folder.newest(demands_of(sample(1)), log); }),
                AllOf(HasSubstr("version 99"), HasSubstr("reads 1")));
}

}  // namespace
}  // namespace duologue
