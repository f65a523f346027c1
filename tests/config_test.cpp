// Options: files, overrides, ranges, rules between options, printing, suggestions.
#include "duologue/config/config.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "duologue/config/nearest.h"
#include "duologue/core/error.h"

namespace duologue {
namespace {

using testing::HasSubstr;

template <class Action>
std::string message_of(const Action& action, ErrorCode code = ErrorCode::kConfiguration) {
    try {
        action();
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), code);
        return error.what();
    }
    ADD_FAILURE() << "nothing was thrown";
    return "";
}

std::string read_message(const std::string& json) {
    return message_of([&] {
        Config config;
        read_config(config, json, "x.json");
    });
}

TEST(Config, NestedObjectsAndDottedKeysMeanTheSame) {
    Config nested;
    read_config(nested, R"({"train": {"epochs": 7, "precision": "f32"}, "data": {"path": "d"}})", "x.json");
    Config dotted;
    read_config(dotted, R"({"train.epochs": 7, "train.precision": "f32", "data.path": "d"})", "x.json");
    EXPECT_EQ(nested.train.epochs, 7);
    EXPECT_EQ(nested.train.precision, Precision::kF32);
    EXPECT_EQ(print_config(nested), print_config(dotted));
}

TEST(Config, PrintedConfigReadsBackEqual) {
    Config config;
    read_config(config, R"({"model.dropout": 0.25, "train.seed": 18446744073709551615, "chat.top_k": 40})", "x.json");
    Config again;
    read_config(again, print_config(config), "printed");
    EXPECT_EQ(print_config(again), print_config(config));
    EXPECT_EQ(again.train.seed, 18446744073709551615ULL);
    EXPECT_NE(print_config(again), print_config(Config{}));
}

TEST(Config, AnUnknownKeyIsAnsweredWithTheNearest) {
    EXPECT_THAT(read_message(R"({"train.epoch": 7})"), HasSubstr("Did you mean train.epochs?"));
    EXPECT_THAT(read_message(R"({"model": {"witdh": 7}})"), HasSubstr("Did you mean model.width?"));
    EXPECT_THAT(read_message(R"({"zzzzzz": 7})"), Not(HasSubstr("Did you mean")));
}

TEST(Config, AWrongValueNamesSourceKeyValueAndExpectation) {
    EXPECT_EQ(read_message(R"({"train.epochs": "many"})"),
              "x.json: train.epochs = \"many\" is not an integer from 0 to 1000000000");
    EXPECT_THAT(read_message(R"({"train.epochs": 1.5})"), HasSubstr("1.5 is not an integer"));
    EXPECT_THAT(read_message(R"({"train.epochs": -1})"), HasSubstr("-1 is not an integer"));
    EXPECT_THAT(read_message(R"({"train.epochs": true})"), HasSubstr("true is not an integer"));
    EXPECT_THAT(read_message(R"({"model.dropout": 1.0})"), HasSubstr("from 0 to 0.9"));
    EXPECT_THAT(read_message(R"({"train.precision": "fp8"})"), HasSubstr("is not bf16 or f32"));
    EXPECT_THAT(read_message(R"({"data.path": 3})"), HasSubstr("3 is not a text"));
    EXPECT_THAT(read_message(R"({"device.threads": 99999999999})"), HasSubstr("from 0 to 4096"));
}

TEST(Config, AKeyThatStandsTwiceIsRefused) {
    EXPECT_THAT(read_message(R"({"train.epochs": 7, "train": {"epochs": 8}})"), HasSubstr("train.epochs stands twice"));
    EXPECT_THAT(read_message(R"({"train.epochs": 7, "train.epochs": 8})"), HasSubstr("stands twice"));
}

TEST(Config, DamagedJsonNamesThePlace) {
    EXPECT_THAT(read_message("{\n\"train\": {"), HasSubstr("line 2"));
    EXPECT_THAT(read_message("[1]"), HasSubstr("must be a JSON object"));
    EXPECT_THAT(message_of(
                    [] {
                        Config config;
                        read_config_file(config, "/does/not/exist.json");
                    },
                    ErrorCode::kInputOutput),
                HasSubstr("/does/not/exist.json"));
}

TEST(Config, OverridesAreTakenOutOfTheCommandLine) {
    Config config;
    std::vector<std::string> arguments{"--config",
                                       "a.json",
                                       "--train.epochs=3",
                                       "--data.path",
                                       "some where",
                                       "--prompt",
                                       "hi",
                                       "--train.learning_rate=1e-3",
                                       "--data.window_shards=1e1"};
    apply_overrides(config, take_overrides(arguments));
    EXPECT_EQ(arguments, (std::vector<std::string>{"--config", "a.json", "--prompt", "hi"}));
    EXPECT_EQ(config.train.epochs, 3);
    EXPECT_EQ(config.data.path, "some where");
    EXPECT_EQ(config.data.window_shards, 10);
    EXPECT_DOUBLE_EQ(config.train.learning_rate, 1e-3);
}

TEST(Config, ATextOptionTakesANumberAsText) {
    Config config;
    EXPECT_EQ(try_option(config, "data.path", "2024"), "");
    EXPECT_EQ(config.data.path, "2024");
}

TEST(Config, AnOverrideWithoutValueOrOutOfRangeIsRefused) {
    const auto message = [](std::vector<std::string> arguments) {
        return message_of([&] {
            Config config;
            apply_overrides(config, take_overrides(arguments));
        });
    };
    EXPECT_THAT(message({"--train.epochs"}), HasSubstr("--train.epochs needs a value"));
    EXPECT_THAT(message({"--train.epochs=x"}), HasSubstr("train.epochs = \"x\" is not an integer"));
    EXPECT_THAT(message({"--trian.epochs=1"}), HasSubstr("Did you mean train.epochs?"));
    EXPECT_THAT(message({"--train.beta1=1"}), HasSubstr("train.beta1 = \"1\" is not a number from 0 to 0.999999"));
}

TEST(Config, RulesBetweenOptionsAreChecked) {
    const auto message = [](const std::string& json) {
        return message_of([&] {
            Config config;
            read_config(config, json, "x.json");
            validate(config);
        });
    };
    EXPECT_NO_THROW(validate(Config{}));
    EXPECT_THAT(message(R"({"model.width": 250})"),
                HasSubstr("model.width = 250 must be a multiple of model.heads = 4"));
    EXPECT_THAT(message(R"({"model.width": 3, "model.heads": 3})"), HasSubstr("must be even"));
    EXPECT_THAT(message(R"({"data.micro_batch_tokens": 100})"), HasSubstr("data.max_context_tokens = 128"));
    EXPECT_THAT(message(R"({"data.micro_batch_reply_tokens": 8})"), HasSubstr("data.max_reply_tokens = 40"));
    EXPECT_THAT(message(R"({"train.epochs": 0})"), HasSubstr("how long to train"));
    for (const char* schedule : {"cosine", "constant"}) {
        EXPECT_THAT(message(fmt::format(R"({{"train.schedule": "{}"}})", schedule)),
                    HasSubstr(fmt::format("train.schedule = {} needs train.learning_rate above 0", schedule)));
    }
    EXPECT_THAT(message(R"({"distributed.communicator": "nccl", "device.kind": "cpu"})"), HasSubstr("nccl needs"));
    EXPECT_THAT(message(R"({"device.attention": "cudnn", "device.kind": "cpu"})"), HasSubstr("device.kind = cuda"));
    EXPECT_THAT(message(R"({"device.attention": "cudnn", "train.precision": "f32"})"), HasSubstr("use auto or own"));
}

TEST(Config, HelpShowsEveryOptionWithTypeRangeAndDefault) {
    const auto shown = [](const std::string& key) {
        for (const OptionHelp& help : option_help()) {
            if (help.key == key) return fmt::format("{} [{}] [{}]", help.type, help.range, help.default_value);
        }
        return std::string("not there");
    };
    EXPECT_EQ(shown("train.precision"), "bf16|f32 [] [bf16]");
    EXPECT_EQ(shown("train.epochs"), "INTEGER [0 to 1000000000] [10]");
    EXPECT_EQ(shown("train.seed"), "INTEGER [at least 0] [1]");
    EXPECT_EQ(shown("chat.top_p"), "NUMBER [1e-06 to 1] [1.0]");
    EXPECT_EQ(shown("data.path"), "DIR [] []");
    EXPECT_EQ(shown("device.graphs"), "true|false [] [true]");
}

TEST(Nearest, FindsTheSmallestEditDistance) {
    const std::vector<std::string> names{"/reset", "/context", "/save"};
    EXPECT_EQ(nearest("/rest", names), "/reset");
    EXPECT_EQ(nearest("/svae", names), "/save");
    EXPECT_EQ(nearest("/xyz123", names), "");
}

}  // namespace
}  // namespace duologue
