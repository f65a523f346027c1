// `duologue plan` against the most memory that training really held, of a model in which parameters dominate and of one
// in which activations do, in both types.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "support/program_run.h"

namespace duologue {
namespace {

struct Shape {
    const char* name;
    const char* precision;
    std::vector<std::string> options;
};

std::vector<std::string> joined(std::vector<std::string> first, const std::vector<std::string>& second) {
    first.insert(first.end(), second.begin(), second.end());
    return first;
}

ProgramRun must_succeed(const std::vector<std::string>& arguments) {
    ProgramRun run = run_program(arguments);
    EXPECT_EQ(run.status, 0) << run.errors;
    return run;
}

void make_data(const TemporaryFolder& folder) {
    (void)must_succeed({PREPROCESS, "demo", "--output", folder / "demo.jsonl", "--conversations", "600"});
    (void)must_succeed({PREPROCESS, folder / "demo.jsonl", "--output", folder / "data"});
}

const std::vector<std::string> kManyParameters{"--model.width=512",          "--model.heads=8",
                                               "--model.hidden=2048",        "--model.encoder_layers=2",
                                               "--model.decoder_layers=2",   "--data.max_context_tokens=32",
                                               "--data.max_reply_tokens=16", "--data.micro_batch_tokens=64"};
const std::vector<std::string> kManyActivations{"--model.width=64",           "--model.heads=2",
                                                "--model.hidden=256",         "--model.encoder_layers=2",
                                                "--model.decoder_layers=2",   "--data.max_context_tokens=64",
                                                "--data.max_reply_tokens=32", "--data.micro_batch_tokens=49152"};

class PlannedMemory : public testing::TestWithParam<Shape> {};

TEST_P(PlannedMemory, IsWithinATenthOfWhatTrainingHeld) {
    const TemporaryFolder folder;
    make_data(folder);
    const std::vector<std::string> options =
        joined({"--data.path=" + (folder / "data"), std::string("--train.precision=") + GetParam().precision,
                "--train.micro_batches_per_step=1", "--device.threads=1"},
               GetParam().options);
    const ProgramRun plan = must_succeed(joined({DUOLOGUE, "plan", "--json"}, options));
    // Twelve steps of different numbers of rows: as many as make a back end keep all the code that it ever keeps.
    const ProgramRun training = must_succeed(joined(
        {DUOLOGUE, "train", "--train.steps=12", "--chat.at_end=never", "--output.path=" + (folder / "out")}, options));
    const auto report = nlohmann::json::parse(plan.output);
    const double planned = report.at("memory").back().at("bytes").get<double>();
    const auto held = static_cast<double>(training.peak_bytes);
    RecordProperty("planned_mib", static_cast<int>(planned / (1 << 20)));
    RecordProperty("held_mib", static_cast<int>(held / (1 << 20)));
    EXPECT_NEAR(planned / held, 1.0, 0.1) << "planned " << planned << ", held " << held << "\n" << report.dump(2);
}

INSTANTIATE_TEST_SUITE_P(Shapes, PlannedMemory,
                         testing::Values(Shape{"parameters_f32", "f32", kManyParameters},
                                         Shape{"parameters_bf16", "bf16", kManyParameters},
                                         Shape{"activations_f32", "f32", kManyActivations},
                                         Shape{"activations_bf16", "bf16", kManyActivations}),
                         [](const auto& shape) { return std::string(shape.param.name); });

}  // namespace
}  // namespace duologue
