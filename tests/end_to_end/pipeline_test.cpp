// From conversations to replies: every input format, training, resuming, chatting, evaluating, exporting.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "end_to_end/sample.h"
#include "support/compress.h"
#include "support/job.h"

namespace duologue {
namespace {

using nlohmann::json;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;

std::vector<std::vector<std::string>> corpus() {
    std::vector<std::vector<std::string>> conversations;
    std::istringstream lines(read_file(kSample + "/corpus.jsonl"));
    for (std::string line; std::getline(lines, line);) conversations.push_back(json::parse(line).at("turns"));
    return conversations;
}

json messages_of(const std::vector<std::string>& turns, const char* who, const char* text,
                 const std::array<const char*, 2>& parties) {
    json messages = json::array();
    for (std::size_t i = 0; i < turns.size(); ++i) messages.push_back({{who, parties[i % 2]}, {text, turns[i]}});
    return messages;
}

std::string as_messages() {
    std::string text;
    for (const auto& turns : corpus()) {
        text += json{{"messages", messages_of(turns, "role", "content", {"user", "assistant"})}}.dump() + "\n";
    }
    return text;
}

std::string as_topical_chat() {
    json all = json::object();
    std::size_t number = 0;
    for (const auto& turns : corpus()) {
        all[fmt::format("t_{:05}", number++)] = {
            {"content", messages_of(turns, "agent", "message", {"agent_1", "agent_2"})}};
    }
    return all.dump(1);
}

std::string joined(const char* separator, const char* end) {
    std::string text;
    for (const auto& turns : corpus()) text += fmt::format("{}{}", fmt::join(turns, separator), end);
    return text;
}

struct InputCase {
    const char* format;
    const char* name;
    std::string (*text)();
};

class InputFormats : public testing::TestWithParam<InputCase> {};

// The shards name their source, so every variant is given the name of the first one.
TEST_P(InputFormats, GiveTheSameShardsPlainAndCompressed) {
    const TemporaryFolder folder;
    const std::string text = GetParam().text();
    for (const std::string& bytes : {text, gzip(text), zstd(text)}) {
        fs::remove_all(folder / "data");
        write_file_durably(folder / "corpus.jsonl", bytes);
        const Outcome made = run(fmt::format("{} {}/corpus.jsonl --output {}/data --shard-tokens 1000", kPreprocess,
                                             folder.path(), folder.path()));
        ASSERT_EQ(made.status, 0) << made.output;
        EXPECT_THAT(made.output, HasSubstr(fmt::format("corpus.jsonl: {}, ", GetParam().format)));
        auto made_files = contents_of(folder / "data");
        auto files = contents_of(kSample + "/data");
        made_files.erase("manifest.json");  // names format and size of the input
        files.erase("manifest.json");
        EXPECT_TRUE(made_files == files);
    }
}

INSTANTIATE_TEST_SUITE_P(All, InputFormats,
                         testing::Values(InputCase{"jsonl", "turns",
                                                   [] { return read_file(kSample + "/corpus.jsonl"); }},
                                         InputCase{"jsonl", "messages", as_messages},
                                         InputCase{"text", "text", [] { return joined("\n", "\n\n"); }},
                                         InputCase{"eou", "eou", [] { return joined(" __eou__ ", " __eou__\n"); }},
                                         InputCase{"topical-chat", "topical_chat", as_topical_chat}),
                         [](const auto& test) { return test.param.name; });

TEST(Training, GoesOnFromACheckpointToTheSameParameters) {
    const TemporaryFolder folder;
    copy_sample("run/checkpoints/step-000000040.h5", folder / "run/checkpoints/step-000000040.h5");
    const Outcome outcome = run(train_on(2, folder / "run"));
    ASSERT_EQ(outcome.status, 0) << outcome.output;
    EXPECT_THAT(outcome.output, HasSubstr("step 40"));
    EXPECT_TRUE(read_file(folder / "run/model/model.safetensors") == final_model());
}

TEST(Training, WritesAModelThatItsLastCheckpointGivesToo) {
    const TemporaryFolder folder;
    const Outcome outcome =
        run(fmt::format("{} export --checkpoint {}/run/checkpoints/step-000000060.h5 --output {}/model", kDuologue,
                        kSample, folder.path()));
    ASSERT_EQ(outcome.status, 0) << outcome.output;
    EXPECT_TRUE(contents_of(folder / "model") == contents_of(kSample + "/run/model"));
}

TEST(Chat, AnswersPromptsAndPipedLinesAlike) {
    const std::string chat = fmt::format("{} chat --model {}/run/model --temperature 0", kDuologue, kSample);
    const Outcome prompted = run(chat + " --prompt hello --prompt 'how are you?'");
    const Outcome piped = run("printf 'hello\\nhow are you?\\n' | " + chat);
    ASSERT_EQ(prompted.status, 0) << prompted.output;
    ASSERT_EQ(piped.status, 0) << piped.output;
    std::istringstream replies(piped.output);
    std::string first;
    std::string second;
    ASSERT_TRUE(std::getline(replies, first) && std::getline(replies, second)) << piped.output;
    EXPECT_FALSE(first.empty());
    EXPECT_EQ(prompted.output, fmt::format("you> hello\nbot> {}\nyou> how are you?\nbot> {}\n", first, second));
}

TEST(Evaluate, ReportsTheShareOfRightReplies) {
    const Outcome outcome = run(fmt::format(
        "{} evaluate {}/run/model --conversations {}/corpus.jsonl --limit 40 --json", kDuologue, kSample, kSample));
    ASSERT_EQ(outcome.status, 0) << outcome.output;
    EXPECT_TRUE(json::accept(outcome.output)) << outcome.output;
    EXPECT_THAT(outcome.output, HasSubstr("\"fact\""));
}

TEST(ChatAfterTraining, BeginsByItselfWithTheLinesThatCame) {
    const TemporaryFolder folder;
    copy_sample("run/checkpoints/step-000000040.h5", folder / "run/checkpoints/step-000000040.h5");
    const Outcome outcome = run("echo hello | " + train_on(2, folder / "run", "--chat.at_end=auto").substr(5));
    const Outcome alone = run(fmt::format("{} chat {}/run/model --temperature 0 --prompt hello", kDuologue, kSample));
    ASSERT_EQ(outcome.status, 0) << outcome.output;
    const std::string reply = alone.output.substr(alone.output.find("bot> ") + 5);
    EXPECT_THAT(outcome.output, HasSubstr("the model is in " + (folder / "run/model")));
    EXPECT_THAT(outcome.output, HasSubstr(reply));
}

TEST(ChatAfterTraining, BeginsAtOnceWhenNothingIsLeftToTrain) {
    const TemporaryFolder folder;
    copy_sample("run", folder / "run");
    write_file_durably(folder / "prompts.txt", "hello\n");
    const Outcome outcome =
        run(train_on(2, folder / "run", "--chat.at_end=auto --chat.prompts=" + (folder / "prompts.txt")));
    ASSERT_EQ(outcome.status, 0) << outcome.output;
    EXPECT_THAT(outcome.output, Not(HasSubstr("step=")));
    EXPECT_THAT(outcome.output, HasSubstr("you> hello\nbot> "));
    EXPECT_THAT(outcome.output, HasSubstr("nothing is left to train: the checkpoint has 60 steps"));
}

TEST(ChatAfterTraining, WithoutTerminalAndInputSaysSoAndEnds) {
    const TemporaryFolder folder;
    copy_sample("run", folder / "run");
    const Outcome outcome = run(train_on(2, folder / "run", "--chat.at_end=auto"));
    EXPECT_EQ(outcome.status, 0) << outcome.output;
    EXPECT_THAT(outcome.output, HasSubstr("no terminal and no input"));
}

}  // namespace
}  // namespace duologue
