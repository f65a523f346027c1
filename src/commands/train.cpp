// duologue train: sets up this rank, trains, saves the model, and opens the chat.
#include <fmt/format.h>
#include <sys/auxv.h>

#include <filesystem>
#include <memory>

#include "commands/program.h"
#include "duologue/arguments/config_options.h"
#include "duologue/backend/matmul_rate.h"
#include "duologue/chat/saved_model.h"
#include "duologue/chat/speaker.h"
#include "duologue/comm/communicator.h"
#include "duologue/core/durable_file.h"
#include "duologue/core/error.h"
#include "duologue/core/folder_lock.h"
#include "duologue/core/hash.h"
#include "duologue/core/log.h"
#include "duologue/core/report.h"
#include "duologue/data/batches.h"
#include "duologue/data/shards.h"
#include "duologue/train/trainer.h"

namespace duologue {

namespace {

constexpr double kLockPatienceSeconds = 5.0;

std::string in_folder(const std::string& folder, std::string_view name) {
    return (std::filesystem::path(folder) / name).string();
}

/// Everything that training works on, in the order in which it is made.
struct Setup {
    Setup(const Config& effective, World& world, const Log& log)
        : config(effective),
          capacity(batch_capacity(config.data, config.model.kind)),
          vocabulary(Vocabulary::load(in_folder(config.data.path, kVocabularyFile))),
          device(open_rank_device(config.device, config.distributed, world)),
          reading(world.busy("reading the data")),
          model(config.model, vocabulary.size(), config.train.precision, capacity.max_source_length,
                capacity.max_target_length),
          data(open_training_data(config.data, config.model.kind, config.train.seed)),
          validation(load_validation_batches(config.data, config.model.kind)) {
        reading.reset();
        log.info("{}, {}", count_text(world.size(), "rank"), device.backend->description());
        log.info("{}, {} words, {} examples an epoch", parameter_text(model.parameters().parameters()),
                 vocabulary.size(), data->examples_per_epoch());
    }

    Config config;
    BatchCapacity capacity;
    Vocabulary vocabulary;
    RankDevice device;
    std::shared_ptr<void> reading;  // after the device: no rank may call itself busy while it waits for others
    Transformer model;
    std::unique_ptr<TrainingData> data;
    std::vector<Batch> validation;
};

/// The version, and a hash of the executable: two builds of one version differ too.
std::string program_identity() {
    const std::string running = "/proc/self/exe";
    std::error_code none;  // in a chroot without /proc the executable is where it was started from
    const std::string path =
        std::filesystem::exists(running, none) ? running : reinterpret_cast<const char*>(getauxval(AT_EXECFN));
    return fmt::format("{} (build {})", DUOLOGUE_VERSION, hash_text(fnv1a(read_file(path))));
}

TrainerSettings trainer_settings(const Setup& setup) {
    const Config& config = setup.config;
    return {.train = config.train,
            .checkpoint = config.checkpoint,
            .capacity = setup.capacity,
            .bucket_bytes = config.distributed.bucket_bytes,
            .shard_optimizer = config.distributed.shard_optimizer,
            .output_path = config.output.path,
            .config_json = print_config(config),
            .program_version = program_identity(),
            .data_checksum = hash_text(fnv1a(read_file(in_folder(config.data.path, kManifestFile)))),
            .matmul_flops_per_second =
                measure_matmul_flops_per_second(*setup.device.backend, setup.model.activation_type()),
            .progress = detect_progress_style()};
}

std::string model_folder(const Config& config) { return in_folder(config.output.path, "model"); }

/// Rank 0 holds the folder as long as this lives; a job that starts again waits for what is left of its last life.
std::unique_ptr<FolderLock> prepare_output(const Config& config, World& world, const Log& log) {
    if (world.rank() != 0) return nullptr;
    std::error_code problem;
    std::filesystem::create_directories(config.output.path, problem);
    require(!problem, ErrorCode::kInputOutput, "cannot make the folder '{}': {}", config.output.path,
            problem.message());
    for (const std::string_view file : {kWeightsFile, kManifestFile}) {
        require(
            !std::filesystem::exists(in_folder(config.output.path, file)), ErrorCode::kInputOutput,
            "output.path is '{}', where there is {}: that folder is a saved model or preprocessed data; name another",
            config.output.path, file);
    }
    require_room_for_model(model_folder(config));  // told now, not after training
    if (!config.chat.prompts.empty()) (void)read_file(config.chat.prompts);
    const auto token = world.busy("waiting for the output folder");
    auto lock = std::make_unique<FolderLock>(config.output.path, "a training", kLockPatienceSeconds);
    if (!lock->held()) {
        log.warning("'{}' cannot be locked: nothing keeps a second training out of it", config.output.path);
    }
    return lock;
}

void log_end(const TrainingResult& result, const Log& log) {
    if (result.reason == EndReason::kStopped) {
        log.info("stopped at step {} and saved; the same command goes on from there", result.step);
        return;
    }
    log.info("trained {}: {}", count_text(result.step, "step"),
             result.epoch == 0 ? "less than one epoch" : count_text(result.epoch, "whole epoch"));
}

/// Trains; rank 0 writes the model when the configured end is reached.
TrainingResult train_and_save(const Config& config, World& world, const StopRequest& stop, const Log& log) {
    const std::unique_ptr<FolderLock> output = prepare_output(config, world, log);
    Setup setup(config, world, log);
    Trainer trainer(trainer_settings(setup), {.backend = *setup.device.backend,
                                              .communicator = *setup.device.communicator,
                                              .world = world,
                                              .log = log,
                                              .model = setup.model,
                                              .data = *setup.data,
                                              .validation = setup.validation,
                                              .vocabulary = setup.vocabulary,
                                              .stop = stop});
    // An error may come while the communicator's thread still sums the trainer's gradients: it goes before them.
    const std::shared_ptr<void> sums_end_first(nullptr, [&](void*) { setup.device.communicator.reset(); });
    // Not before: what is refused leaves the configuration of the run that is there.
    if (world.rank() == 0) write_file_durably(in_folder(config.output.path, "config.json"), print_config(config));
    const TrainingResult result = trainer.run();
    log_end(result, log);
    if (result.reason != EndReason::kFinished) return result;
    const std::vector<float> parameters = trainer.parameters();
    if (world.rank() == 0) {
        const auto token = world.busy("writing the model");
        const std::string folder = model_folder(config);
        save_model(folder,
                   {.model = config.model,
                    .max_context_tokens = config.data.max_context_tokens,
                    .max_reply_tokens = config.data.max_reply_tokens,
                    .steps = result.step},
                   setup.vocabulary, parameters);
        log.info("the model is in {}", folder);
    }
    return result;
}

/// The chat after training, on the rank that is left.
void chat_at_end(const Config& config, Program& program) {
    ChatTerminal terminal{.input = detect_input(program.environment.started),
                          .history_path = program.environment.history_path};
    if (!config.chat.prompts.empty()) {
        terminal.input = ChatInput::kText;
        terminal.text = read_file(config.chat.prompts);
    }
    const std::string folder = model_folder(config);
    Speaker speaker(load_model(folder), open_device(config.device, 1));
    Session session(speaker.generator(), speaker.vocabulary(), config.chat, speaker.card().max_context_tokens);
    greet(speaker, terminal.input);
    program.stop_on_signals(StopOn::kInterrupt);
    forget_what_was_typed(terminal.input);
    const std::int64_t lines = run_chat(session, terminal, program.stop.wanted);
    if (lines == 0 && terminal.input != ChatInput::kText) {
        const bool piped = terminal.input == ChatInput::kPiped;
        Log().info("{}talk with: duologue chat {}", piped ? "no terminal and no input, so no chat; " : "", folder);
    }
}

int train(Program& program, const std::string& config_path) {
    program.stop_on_signals(StopOn::kInterruptAndTerminate);  // a stop during the set-up ends after the first step
    // Before the configuration is read, so that what is wrong with it is said once and not by every rank.
    World& world = program.world.emplace(
        &program.argc, &program.argv, Launch{.rank = program.environment.rank, .terminated = &program.stop.terminated});
    const Config config = effective_config(program, config_path);
    require(!config.data.path.empty(), ErrorCode::kConfiguration,
            "data.path is not set: name the folder that duologue-preprocess wrote, as --data.path=DIR");
    world.set_timeout_seconds(config.distributed.timeout_seconds);
    const Log log(world.rank(), world.size());
    const TrainingResult result = train_and_save(config, world, program.stop, log);
    const bool chats =
        world.rank() == 0 && result.reason == EndReason::kFinished && config.chat.at_end == ChatAtEnd::kAuto;
    program.world.reset();  // the other ranks end, and none waits for the chat
    if (chats) chat_at_end(config, program);
    return 0;
}

}  // namespace

void declare_train(Program& program) {
    const auto config_path = std::make_shared<std::string>();
    Command& command = program.line.add_command("train", "train a model, save it, and talk with it");
    add_config_file_option(command, *config_path);
    add_config_options(command, "", program.overrides);
    command.run = [&program, config_path] { return train(program, *config_path); };
}

}  // namespace duologue
