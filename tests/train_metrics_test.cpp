// metrics.jsonl across resumes, and the lines people and machines read.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>
#include <string>
#include <vector>

#include "duologue/core/durable_file.h"
#include "duologue/core/error.h"
#include "duologue/train/metrics.h"
#include "support/temporary_folder.h"

namespace duologue {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

StepMetrics step(std::int64_t number) {
    return {.step = number,
            .epoch = 0,
            .train_loss = 3.25,
            .learning_rate = 0.001,
            .gradient_norm = 1.5,
            .source_tokens = 3000.0,
            .target_tokens = 1000.0,
            .seconds = 2.0,
            .matmul_share = 0.41};
}

std::vector<std::int64_t> steps_in(const std::string& path) {
    std::vector<std::int64_t> steps;
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) steps.push_back(nlohmann::json::parse(line).at("step"));
    return steps;
}

TEST(MetricsFile, KeepsOneObjectPerLine) {
    const TemporaryFolder folder;
    MetricsFile file(folder / "metrics.jsonl", 0);
    file.append(step(1));
    file.append(ValidationMetrics{.step = 1, .epoch = 0, .loss = 2.0, .unigram_loss = 3.0, .seconds = 1.0});
    std::ifstream text(folder / "metrics.jsonl");
    std::string line;
    std::getline(text, line);
    const auto trained = nlohmann::json::parse(line);
    EXPECT_EQ(trained.at("train_loss"), 3.25);
    EXPECT_EQ(trained.at("epoch"), 1);
    EXPECT_EQ(trained.at("source_tokens_per_second"), 1500.0);
    EXPECT_EQ(trained.at("skipped"), false);
    std::getline(text, line);
    EXPECT_NEAR(nlohmann::json::parse(line).at("perplexity").get<double>(), 7.389, 1e-3);
}

TEST(MetricsFile, AResumeDropsWhatWillBeWrittenAgain) {
    const TemporaryFolder folder;
    const std::string path = folder / "metrics.jsonl";
    {
        MetricsFile file(path, 0);
        for (std::int64_t i = 1; i <= 5; ++i) file.append(step(i));
    }
    std::ofstream(path, std::ios::app) << R"({"event":"step","st)";  // the writer was killed
    MetricsFile file(path, 3);
    file.append(step(4));
    EXPECT_THAT(steps_in(path), ElementsAre(1, 2, 3, 4));
}

TEST(MetricsFile, ANewRunBeginsAnEmptyFile) {
    const TemporaryFolder folder;
    const std::string path = folder / "metrics.jsonl";
    MetricsFile(path, 0).append(step(1));
    MetricsFile(path, 0).append(step(1));
    EXPECT_THAT(steps_in(path), ElementsAre(1));
}

TEST(MetricsFile, NamesAPlaceThatCannotBeWritten) {
    const TemporaryFolder folder;
    try {
        const MetricsFile file(folder / "no" + std::string("/metrics.jsonl"), 0);
        ADD_FAILURE() << "no error";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kInputOutput);
        EXPECT_THAT(error.what(), HasSubstr("no/metrics.jsonl"));
    }
}

std::string shown(const ProgressSettings& settings, std::int64_t steps) {
    const Log log;
    Progress progress(settings, log);
    testing::internal::CaptureStderr();
    for (std::int64_t i = 1; i <= steps; ++i) progress.show(step(i));
    progress.clear();
    return testing::internal::GetCapturedStderr();
}

TEST(Progress, PlainLinesComeAtIntervalsAndCanBeReadByARegularExpression) {
    const std::string text = shown({.style = ProgressStyle::kLines, .planned_steps = 100, .interval_steps = 2}, 5);
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2);
    std::smatch match;
    ASSERT_TRUE(std::regex_search(text, match, std::regex("step=2 epoch=1 train_loss=([0-9.eE+-]+) ")));
    EXPECT_EQ(std::stod(match[1]), 3.25);
}

TEST(Progress, OnATerminalOneLineIsRewritten) {
    const std::string text = shown({.style = ProgressStyle::kTerminal, .planned_steps = 65, .planned_epochs = 3}, 5);
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 0);
    EXPECT_THAT(text, HasSubstr("\r\033[K\033[?7lstep 5/65  epoch 1/3  loss 3.2500  2000 tokens/s  41% of peak  ETA "
                                "0:02:00\033[?7h"));
    EXPECT_TRUE(text.ends_with("\r\033[K"));
}

std::string shown_while_doing(ProgressStyle style) {
    const Log log;
    Progress progress({.style = style, .planned_steps = 65, .interval_steps = 100}, log);
    testing::internal::CaptureStderr();
    progress.show(step(5));
    progress.doing("validating 1/7");
    progress.doing("validating 2/7");  // too soon to be drawn
    progress.doing("saving");
    return testing::internal::GetCapturedStderr();
}

TEST(Progress, OnATerminalSaysWhatIsDoneBetweenSteps) {
    const std::string text = shown_while_doing(ProgressStyle::kTerminal);
    EXPECT_THAT(text, HasSubstr("\r\033[K\033[?7lstep 5/65  epoch 1  validating 1/7 ...\033[?7h"));
    EXPECT_THAT(text, testing::Not(HasSubstr("validating 2/7")));
    EXPECT_TRUE(text.ends_with("step 5/65  epoch 1  saving ...\033[?7h")) << text;
    EXPECT_EQ(shown_while_doing(ProgressStyle::kLines), "");
}

TEST(Progress, CanBeSilent) { EXPECT_EQ(shown({.style = ProgressStyle::kNone}, 5), ""); }

}  // namespace
}  // namespace duologue
