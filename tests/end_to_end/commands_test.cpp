// inspect, plan, doctor and evaluate as people run them, on a tiny model trained for the purpose.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "duologue/core/durable_file.h"
#include "support/program_run.h"

namespace duologue {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::Not;

using Arguments = std::vector<std::string>;

/// Data, a trained model and its checkpoints, made once for all tests.
class Commands : public testing::Test {
   protected:
    static void SetUpTestSuite() {
        folder_ = std::make_unique<TemporaryFolder>();
        const std::string corpus = path("demo.jsonl");
        ASSERT_EQ(run_program({PREPROCESS, "demo", "--output", corpus, "--conversations", "300"}).status, 0);
        ASSERT_EQ(run_program({PREPROCESS, corpus, "--output", path("data"), "--validation-percent", "5"}).status, 0);
        const ProgramRun trained =
            run_program({DUOLOGUE, "train", "--data.path=" + path("data"), "--output.path=" + path("out"),
                         "--model.width=32", "--model.heads=2", "--model.hidden=64", "--model.encoder_layers=1",
                         "--model.decoder_layers=1", "--train.steps=4", "--train.warmup_steps=2",
                         "--checkpoint.interval_steps=2", "--device.threads=1", "--chat.at_end=never"});
        ASSERT_EQ(trained.status, 0) << trained.errors;
    }
    static void TearDownTestSuite() { folder_.reset(); }

    static std::string path(const std::string& name) { return *folder_ / name; }

    static ProgramRun run(const Arguments& arguments) {
        Arguments all{DUOLOGUE};
        all.insert(all.end(), arguments.begin(), arguments.end());
        return run_program(all);
    }
    /// The report of a command that ends well.
    static json report(Arguments arguments) {
        arguments.emplace_back("--json");
        const ProgramRun done = run(arguments);
        EXPECT_EQ(done.status, 0) << done.errors;
        return json::parse(done.output);
    }
    /// A copy of `original` with one bit flipped in the middle.
    static std::string damaged_copy(const std::string& original, const std::string& name) {
        std::string bytes = read_file(original);
        bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
        write_file_durably(path(name), bytes);
        return path(name);
    }

    static std::string longer_copy(const std::string& original, const std::string& name) {
        write_file_durably(path(name), read_file(original) + "x");
        return path(name);
    }

    static std::unique_ptr<TemporaryFolder> folder_;
};

std::unique_ptr<TemporaryFolder> Commands::folder_;

TEST_F(Commands, InspectTellsWhatEverythingIs) {
    EXPECT_EQ(report({"inspect", path("data")}).at("kind"), "preprocessed data");
    EXPECT_EQ(report({"inspect", path("data/manifest.json")}).at("kind"), "preprocessed data");
    EXPECT_EQ(report({"inspect", path("data/vocabulary.json")}).at("kind"), "vocabulary");
    EXPECT_EQ(report({"inspect", path("data/train-00000.h5")}).at("kind"), "shard");
    EXPECT_EQ(report({"inspect", path("out")}).at("kind"), "output of a run");
    EXPECT_EQ(report({"inspect", path("out/model")}).at("kind"), "saved model");
    EXPECT_EQ(report({"inspect", path("out/model/model.safetensors")}).at("kind"), "saved model");
    EXPECT_EQ(report({"inspect", path("out/checkpoints")}).at("count"), 2);
    const json checkpoint = report({"inspect", path("out/checkpoints/step-000000004.h5")});
    EXPECT_EQ(checkpoint.at("kind"), "checkpoint");
    EXPECT_EQ(checkpoint.at("step"), 4);
    EXPECT_EQ(checkpoint.at("config").at("model").at("width"), 32);
    EXPECT_EQ(checkpoint.at("parameters"), report({"inspect", path("out/model")}).at("parameters"));
}

TEST_F(Commands, InspectShowsWhatIsTrainedOn) {
    const json shown = report({"inspect", path("data"), "--conversation", "3"});
    EXPECT_EQ(shown.at("turns").size(), shown.at("examples").size() + 1);
    EXPECT_THAT(shown.at("examples").at(0).at("target").get<std::string>(), HasSubstr("<eos>"));
    const ProgramRun text = run({"inspect", path("data/train-00000.h5"), "--conversation", "3"});
    EXPECT_EQ(text.status, 0) << text.errors;
    EXPECT_THAT(text.output, HasSubstr(shown.at("examples").at(0).at("source").get<std::string>()));
    EXPECT_EQ(run({"inspect", path("data"), "--conversation", "99999"}).status, 2);
}

TEST_F(Commands, InspectRefusesWhatOnlyOneConversationCouldUse) {
    for (const char* option : {"--config", "--vocabulary"}) {
        const ProgramRun done = run({"inspect", path("data"), option, path("data/vocabulary.json")});
        EXPECT_EQ(done.status, 2) << done.output;
        EXPECT_THAT(done.errors, HasSubstr(std::string(option) + " is for one conversation: add --conversation N"));
    }
}

TEST_F(Commands, PreprocessSaysWhereTheVocabularyIsInexact) {
    std::string corpus;
    constexpr int kWords = 1'100'000;  // more than it counts exactly
    for (int i = 0; i < kWords; ++i) corpus += fmt::format("w{}{}", i, i % 100 == 99 ? '\n' : ' ');
    write_file_durably(path("many.txt"), corpus);
    const Arguments command{PREPROCESS, path("many.txt"), "--format", "text", "--output", path("many")};
    const ProgramRun done = run_program(command);
    ASSERT_EQ(done.status, 0) << done.errors;
    EXPECT_THAT(done.output, HasSubstr("vocabulary inexact: "));
    EXPECT_GT(json::parse(read_file(path("many/manifest.json"))).at("word_count_error"), 0);
}

TEST_F(Commands, PreprocessWarnsOfAnEmptyValidationSplit) {
    write_file_durably(path("one.jsonl"), "{\"turns\": [\"hello\", \"hi\"]}\n");
    const ProgramRun done =
        run_program({PREPROCESS, path("one.jsonl"), "--output", path("one"), "--validation-percent", "1"});
    EXPECT_EQ(done.status, 0) << done.errors;
    EXPECT_THAT(done.errors, HasSubstr("the validation split is empty: 1 % of 1 conversation happened to be none"));
    EXPECT_THAT(done.output, HasSubstr("\n1 shard in "));
    std::string repeated;
    for (int i = 0; i < 300; ++i) repeated += i % 2 == 0 ? "{\"turns\": [\"hello\"]}\n" : "{\"turns\": [\"hi\"]}\n";
    write_file_durably(path("equal.jsonl"), repeated);
    EXPECT_THAT(run_program({PREPROCESS, path("equal.jsonl"), "--output", path("equal")}).errors,
                HasSubstr("2 % of 300 conversations, of which 2 differ and equal ones stay together, happened to be"));
}

TEST_F(Commands, AreRefusedInOneLineThatSaysWhatWasMeant) {
    struct Wrong {
        const char* program;
        Arguments arguments;
        std::string says;
    };
    const std::string model = path("out/model");
    for (const Wrong& wrong : std::vector<Wrong>{
             {DUOLOGUE, {}, "a command is missing: train, chat, "},
             {DUOLOGUE, {"--"}, "a command is missing: train, chat, "},
             {DUOLOGUE, {"chatt", model}, "there is no command 'chatt'. Did you mean chat? `duologue --help`"},
             {DUOLOGUE, {"chat"}, "MODEL is missing: "},
             {DUOLOGUE, {"chat", model, "--temprature", "0"}, "'--temprature'. Did you mean --temperature?"},
             {DUOLOGUE,
              {"chat", model, "--temperature", "warm"},
              "--temperature is 'warm', not a number from 0 to 100."},
             {DUOLOGUE, {"chat", model, "--chat.at_end=never"}, "`duologue chat` has no option --chat.at_end"},
             {DUOLOGUE, {"chat", model, "--prompt", "--"}, "--prompt needs a value: a text."},
             {DUOLOGUE, {"evaluate", model, "--json=true"}, "--json takes no value, but is given 'true'."},
             {DUOLOGUE, {"train", "++"}, "'++' is one argument too many."},
             {DUOLOGUE, {"evaluate", model, "--limit", "-1"}, "--limit is '-1', not an integer from 0 to "},
             {DUOLOGUE, {"evaluate", model, "--train.epochs=3"}, "`duologue evaluate` has no option --train.epochs"},
             {DUOLOGUE, {"export", "--output", path("x")}, "--checkpoint FILE is missing: "},
             {DUOLOGUE, {"inspect", model, model}, "' is one argument too many. `duologue inspect --help`"},
             {DUOLOGUE, {"plan", "--ranks"}, "--ranks needs a value: an integer from 1 to "},
             {PREPROCESS, {path("demo.jsonl"), "--outptu", path("x")}, "'--outptu'. Did you mean --output?"},
             {PREPROCESS, {path("demo.jsonl")}, "--output DIR is missing: "},
             {PREPROCESS, {"--output", path("x")}, "INPUT is missing: "},
             {PREPROCESS, {"--"}, "INPUT is missing: "},
             {PREPROCESS,
              {"--seed", "1", "demo", "--output", path("x")},
              "'--seed' stands before the command demo; it comes after it."},
             {PREPROCESS, {path("demo.jsonl"), "--output", path("x"), "--format", "jsno"}, "Did you mean jsonl?"},
             {PREPROCESS,
              {path("demo.jsonl"), "--output", path("x"), "--workers=0"},
              "--workers is '0', not an integer"},
             {PREPROCESS,
              {path("demo.jsonl"), "--output", path("x"), "--vocabulary", path("data/vocabulary.json"),
               "--min-count=1"},
              "leave it out, or --min-count. `"},
             {PREPROCESS,
              {"--lowercase=no", "--vocabulary-size=9", "--vocabulary=v", path("demo.jsonl"), "--output", path("x")},
              "leave it out, or --vocabulary-size and --lowercase. `"},
             {PREPROCESS, {"demo", "--output", path("x"), "--conversation", "3"}, "Did you mean --conversations?"},
             {PREPROCESS,
              {"demo", "--output", path("x"), "--conversations", "0"},
              "`duologue-preprocess demo --help`"}}) {
        Arguments all{wrong.program};
        all.insert(all.end(), wrong.arguments.begin(), wrong.arguments.end());
        const ProgramRun done = run_program(all);
        EXPECT_EQ(done.status, 2) << wrong.says;
        EXPECT_EQ(done.output, "");
        EXPECT_THAT(done.errors, testing::StartsWith("error: "));
        EXPECT_THAT(done.errors, HasSubstr(wrong.says));
        EXPECT_THAT(done.errors, testing::ContainsRegex("`duologue[^`]* --help` lists [a-z ]+\\.\n$"));
        EXPECT_EQ(std::count(done.errors.begin(), done.errors.end(), '\n'), 1) << done.errors;
    }
    EXPECT_FALSE(std::filesystem::exists(path("x")));
    EXPECT_EQ(run({"chat", model, "--prompt", "--hello", "--prompt=--seed", "--prompt=-h"}).status, 0);  // values
}

TEST_F(Commands, OfOtherRanksAreRefusedInTheEndAndAskRankZeroForHelp) {
    for (const char* rank : {"0", "1"}) {
        const std::string variable = fmt::format("OMPI_COMM_WORLD_RANK={}", rank);
        const ProgramRun wrong = run_program({"/usr/bin/env", variable, DUOLOGUE, "train", "--nonsense=1"});
        EXPECT_EQ(wrong.status, 2);
        EXPECT_THAT(wrong.errors, HasSubstr("there is no option '--nonsense'."));
        const ProgramRun help = run_program({"/usr/bin/env", variable, DUOLOGUE, "train", "--help"});
        EXPECT_EQ(help.status, 0);
        EXPECT_EQ(help.output.empty(), std::string(rank) != "0");
    }
}

TEST_F(Commands, PreprocessReadsAFileWhateverItsNameIs) {
    for (const char* name : {"[a]", "[a,b]", "++"}) {
        const std::string folder = path("names") + "/" + name;
        std::filesystem::create_directories(folder);
        write_file_durably(folder + "/" + name, "{\"turns\": [\"hello\", \"hi\"]}\n");
        const ProgramRun done = run_program({"/usr/bin/env", "-C", folder, PREPROCESS, name, "--output", "out"});
        EXPECT_EQ(done.status, 0) << done.errors;
    }
}

TEST_F(Commands, AnswerWithTheVersionAndTheirHelp) {
    for (const char* program : {DUOLOGUE, PREPROCESS}) {
        const ProgramRun version = run_program({program, "--version"});
        EXPECT_EQ(version.status, 0);
        EXPECT_THAT(version.output, testing::ContainsRegex("^duologue[-a-z]* [0-9]+\\.[0-9]+\\.[0-9]+\n$"));
    }
    EXPECT_THAT(run_program({PREPROCESS, "--help"}).output,
                testing::ContainsRegex("\n  --format auto.jsonl.text.eou.topical-chat +[^[]*\\[default auto\\]\n"));
    EXPECT_THAT(run({"train", "--help"}).output,
                testing::ContainsRegex("\n  --train.epochs INTEGER +[^[]*\\[0 to 1000000000; default 10\\]\n"));
}

TEST_F(Commands, SayWhatToDoWithWhatWasGivenInstead) {
    const std::string checkpoint = path("out/checkpoints/step-000000004.h5");
    const std::string corpus = path("demo.jsonl");
    write_file_durably(path("letter.h5"), "dear all");
    std::filesystem::create_directories(path("just_begun/checkpoints"));
    std::filesystem::create_directories(path("unended/checkpoints"));
    std::filesystem::copy(checkpoint, path("unended/checkpoints"));
    struct Mistaken {
        Arguments arguments;
        int status;
        std::string says;
    };
    for (const Mistaken& mistaken : std::vector<Mistaken>{
             {{"chat", checkpoint}, 4, "duologue export --checkpoint " + checkpoint + " --output DIR"},
             {{"evaluate", path("out/checkpoints"), "--data", path("data")},
              4,
              "holds checkpoints, not a model; make one of a checkpoint: duologue export --checkpoint " + checkpoint},
             {{"chat", path("unended")}, 4, "end the training, or make one of a checkpoint: duologue export "},
             {{"chat", path("just_begun")}, 4, "so there is no model yet; end the training\n"},
             {{"chat", corpus}, 4, "is a file, not the folder of a saved model"},
             {{"chat", path("nowhere")}, 4, "there is no config.json in it"},
             {{"chat", path("out/model/model.safetensors")}, 4, "give the folder, " + path("out/model")},
             {{"train", "--data.path=" + corpus}, 2, "duologue-preprocess '" + corpus + "' --output DIR"},
             {{"plan", "--data.path=" + path("data/manifest.json")}, 2, "give the folder, " + path("data")},
             {{"evaluate", path("out/model"), "--data", corpus},
              2,
              "duologue-preprocess '" + corpus + "' --output DIR"},
             {{"inspect", path("letter.h5")}, 3, "letter.h5' is not an HDF5 file"},
             {{"export", "--checkpoint", corpus, "--output", path("x")}, 3, "demo.jsonl' is not an HDF5 file"}}) {
        const ProgramRun done = run(mistaken.arguments);
        EXPECT_EQ(done.status, mistaken.status) << done.errors;
        EXPECT_THAT(done.errors, HasSubstr(mistaken.says));
    }
}

TEST_F(Commands, SayWhereInARunTheModelIs) {
    for (const Arguments& command : {Arguments{"chat", path("out"), "--prompt", "hello"},
                                     Arguments{"evaluate", path("out"), "--data", path("data")}}) {
        const ProgramRun done = run(command);
        EXPECT_EQ(done.status, 4);
        EXPECT_THAT(done.errors, HasSubstr("give " + path("out/model")));
    }
    for (const char* folder : {"out", "out/checkpoints"}) {
        const ProgramRun exported = run({"export", "--checkpoint", path(folder), "--output", path("exported")});
        EXPECT_EQ(exported.status, 4);
        EXPECT_THAT(exported.errors, HasSubstr("the newest is " + path("out/checkpoints/step-000000004.h5")));
    }
}

TEST_F(Commands, InspectSaysWhatARunLacks) {
    std::filesystem::create_directories(path("begun"));
    write_file_durably(path("begun/metrics.jsonl"), "");
    const json begun = report({"inspect", path("begun")});
    EXPECT_EQ(begun.at("checkpoints").at("count"), 0);
    EXPECT_THAT(begun.at("model").get<std::string>(), HasSubstr("none"));
}

TEST_F(Commands, InspectFindsDamage) {
    for (const std::string& file : {damaged_copy(path("data/train-00000.h5"), "shard.h5"),
                                    longer_copy(path("data/train-00000.h5"), "longer_shard.h5"),
                                    longer_copy(path("out/checkpoints/step-000000004.h5"), "longer_checkpoint.h5"),
                                    damaged_copy(path("data/vocabulary.json"), "v.json"),
                                    damaged_copy(path("out/checkpoints/step-000000004.h5"), "checkpoint.h5")}) {
        const ProgramRun done = run({"inspect", file});
        EXPECT_EQ(done.status, 3) << file << done.output;
        EXPECT_THAT(done.errors, HasSubstr("error: "));
    }
    EXPECT_EQ(run({"inspect", path("nowhere")}).status, 4);
    write_file_durably(path("letter.txt"), "dear all");
    EXPECT_EQ(run({"inspect", path("letter.txt")}).status, 3);
}

TEST_F(Commands, InspectListsTheRestBesideADamagedCheckpoint) {
    std::filesystem::create_directories(path("some"));
    std::filesystem::copy(path("out/checkpoints/step-000000002.h5"), path("some/step-000000002.h5"));
    (void)damaged_copy(path("out/checkpoints/step-000000004.h5"), "some/step-000000004.h5");
    const ProgramRun done = run({"inspect", path("some"), "--json"});
    EXPECT_EQ(done.status, 3);
    const json found = json::parse(done.output);
    EXPECT_EQ(found.at("valid"), false);
    EXPECT_EQ(found.at("checkpoints").at(0).at("state"), "valid");
    EXPECT_EQ(found.at("checkpoints").at(1).at("state"), "damaged");
}

TEST_F(Commands, PlanNeedsDataOrTheNumberOfWords) {
    const ProgramRun done = run({"plan"});
    EXPECT_EQ(done.status, 2);
    EXPECT_THAT(done.errors, HasSubstr("--vocabulary-size"));
    const json without = report({"plan", "--vocabulary-size", "1000", "--model.width=32", "--model.heads=2"});
    EXPECT_THAT(without.at("step").at("of").get<std::string>(), HasSubstr("longest"));
    EXPECT_EQ(run({"plan", "--vocabulary-size", "1000", "--data.path=" + path("data")}).status, 2);
}

TEST_F(Commands, PlanCountsWhatTheModelHas) {
    const json plan = report({"plan", "--data.path=" + path("data"), "--model.width=32", "--model.heads=2",
                              "--model.hidden=64", "--model.encoder_layers=1", "--model.decoder_layers=1"});
    EXPECT_EQ(plan.at("parameters"), report({"inspect", path("out/model")}).at("parameters"));
    EXPECT_GT(plan.at("step").at("flops").get<double>(), 0.0);
    std::int64_t sum = 0;
    for (const json& kind : plan.at("memory"))
        sum += kind.at("kind") == "all" ? 0 : kind.at("bytes").get<std::int64_t>();
    EXPECT_EQ(sum, plan.at("memory").back().at("bytes"));
}

TEST_F(Commands, PlanDividesTheWorkAmongRanks) {
    const Arguments shape{"plan", "--vocabulary-size", "1000", "--train.micro_batches_per_step=4"};
    const auto with = [&](const std::string& ranks) {
        Arguments all = shape;
        all.insert(all.end(), {"--ranks", ranks});
        return all;
    };
    const json one = report(with("1"));
    const json two = report(with("2"));
    EXPECT_DOUBLE_EQ(two.at("step").at("flops_of_a_rank").get<double>() * 2.0,
                     one.at("step").at("flops").get<double>());
    EXPECT_LT(two.at("memory").back().at("other_ranks_bytes"), two.at("memory").back().at("rank_0_bytes"));
    EXPECT_EQ(run(with("3")).status, 2);
}

TEST_F(Commands, DoctorIsContentWithWhatThisTestRunsOn) {
    const json found = report({"doctor", "--data.path=" + path("data"), "--output.path=" + path("out2")});
    EXPECT_EQ(found.at("exit_status"), 0);
    std::vector<std::string> topics;
    for (const json& finding : found.at("findings")) topics.push_back(finding.at("topic"));
    for (const char* topic :
         {"Open MPI", "HDF5", "oneDNN", "cores", "processor", "bf16 matmul", "memory", "data", "output"}) {
        EXPECT_THAT(topics, testing::Contains(topic));
    }
    EXPECT_FALSE(std::filesystem::exists(path("out2")));
}

TEST_F(Commands, DoctorEndsWithTheFirstFailuresStatus) {
    const ProgramRun done = run({"doctor", "--data.path=" + path("nowhere")});
    EXPECT_EQ(done.status, 4);
    EXPECT_THAT(done.output, HasSubstr("fail  data"));
    EXPECT_EQ(run({"doctor", "--device.kind=cuda", "--output.path=" + path("x")}).status, 5);
}

TEST_F(Commands, EvaluatePrintsTheLossBesideTheUnigramBaseline) {
    const json found =
        report({"evaluate", path("out/model"), "--data", path("data"), "--device.threads=1"}).at("validation");
    EXPECT_GT(found.at("target_tokens"), 100);
    EXPECT_NEAR(found.at("perplexity").get<double>(), std::exp(found.at("loss").get<double>()), 1e-6);
    EXPECT_GT(found.at("unigram_loss").get<double>(), 1.0);
    // The same figure as the training's last validation, which ran in bf16.
    const std::string metrics = read_file(path("out/metrics.jsonl"));
    const std::size_t at = metrics.rfind("\"val_loss\":");
    ASSERT_NE(at, std::string::npos) << metrics;
    EXPECT_NEAR(found.at("loss").get<double>(), std::stod(metrics.substr(at + 11)), 0.02);
}

TEST_F(Commands, EvaluateTellsFactsApartByHowLongAgoTheyWereSaid) {
    const json found = report(
        {"evaluate", path("out/model"), "--conversations", path("demo.jsonl"), "--limit", "60", "--device.threads=1"});
    std::vector<json> distances;
    for (const json& row : found.at("checkable_replies")) distances.push_back(row.at("turns_later"));
    for (const int distance : {1, 2, 3}) EXPECT_THAT(distances, testing::Contains(json(distance)));
}

TEST_F(Commands, EvaluateRefusesWhatItCannotCompare) {
    EXPECT_EQ(run({"evaluate", path("out/model")}).status, 2);
    const std::string other = path("other.jsonl");
    write_file_durably(other, "{\"turns\": [\"an other tongue\", \"indeed\"]}\n");
    ASSERT_EQ(run_program({PREPROCESS, other, "--output", path("other")}).status, 0);
    const ProgramRun done = run({"evaluate", path("out/model"), "--data", path("other")});
    EXPECT_EQ(done.status, 3);
    EXPECT_THAT(done.errors, HasSubstr("vocabulary"));
    EXPECT_THAT(done.output, Not(HasSubstr("loss")));
}

}  // namespace
}  // namespace duologue
