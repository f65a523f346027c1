// duologue export: a saved model from a checkpoint.
#include "commands/program.h"
#include "duologue/chat/saved_model.h"
#include "duologue/core/error.h"
#include "duologue/core/log.h"
#include "duologue/train/checkpoint.h"

namespace duologue {

namespace {

struct ExportArguments {
    std::string checkpoint;
    std::string output;
};

int export_model(const ExportArguments& arguments) {
    const std::string newest = newest_checkpoint(arguments.checkpoint);
    require(newest.empty(), ErrorCode::kInputOutput, "'{}' is a folder: give one of its checkpoints, the newest is {}",
            arguments.checkpoint, newest);
    require_room_for_model(arguments.output);
    const Checkpoint checkpoint = read_checkpoint(arguments.checkpoint);
    Config config;
    read_config(config, checkpoint.summary.config, arguments.checkpoint);
    const ModelCard card{.model = config.model,
                         .max_context_tokens = config.data.max_context_tokens,
                         .max_reply_tokens = config.data.max_reply_tokens,
                         .steps = checkpoint.summary.step};
    const Vocabulary vocabulary = Vocabulary::parse(checkpoint.vocabulary, arguments.checkpoint);
    require(parameter_shapes(make_transformer(card, vocabulary).parameters()) == checkpoint.summary.shapes,
            ErrorCode::kData, "the parameters in '{}' are not those of the model that its configuration describes",
            arguments.checkpoint);
    save_model(arguments.output, card, vocabulary, checkpoint.values);
    Log().info("the model after {} steps is in {}", checkpoint.summary.step, arguments.output);
    return 0;
}

}  // namespace

void declare_export(Program& program) {
    const auto arguments = std::make_shared<ExportArguments>();
    Command& command = program.line.add_command("export", "write a saved model from a checkpoint");
    command.value("--checkpoint", "FILE", arguments->checkpoint, "for example OUT/checkpoints/step-000001200.h5")
        .required();
    command.value("--output", "DIR", arguments->output, "folder to write").required();
    command.run = [arguments] { return export_model(*arguments); };
}

}  // namespace duologue
