// Program: what main gives to the commands, and the commands.
#pragma once

#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "duologue/arguments/command_line.h"
#include "duologue/backend/backend.h"
#include "duologue/chat/terminal.h"
#include "duologue/comm/communicator.h"
#include "duologue/config/config.h"
#include "duologue/core/report.h"
#include "duologue/train/trainer.h"

namespace duologue {

/// What main has read of the environment.
struct Environment {
    Started started = Started::kDirectly;
    int rank = 0;              ///< as the launcher says
    std::string history_path;  ///< of the chat's lines; "" where there is no home
};

class Speaker;

/// Which signals ask for an end in order; the others end the process at once.
enum class StopOn : std::uint8_t { kInterrupt, kInterruptAndTerminate };

struct Program {
    CommandLine line;
    int argc = 0;
    char** argv = nullptr;
    std::vector<Override> overrides;  ///< the `--section.key=value` arguments
    Environment environment;
    StopRequest& stop;                            ///< set by the signals that stop_on_signals() names
    std::function<void(StopOn)> stop_on_signals;  ///< without a call, signals end the process
    std::optional<World> world;                   ///< made by `train`; its ranks end when an error reaches main
    std::function<int()> run;                     ///< what was asked for; none until the command line is read
};

/// Each adds its command.
void declare_train(Program& program);
void declare_chat(Program& program);
void declare_evaluate(Program& program);
void declare_plan(Program& program);
void declare_inspect(Program& program);
void declare_doctor(Program& program);
void declare_export(Program& program);

/// --json: prints the report of the command as JSON.
void add_json_option(Command& command, ReportStyle& style);

/// --config: the file that the options of the configuration come after.
void add_config_file_option(Command& command, std::string& path);

/// kConfiguration where `path`, the value of `option`, is a file: conversations that are not preprocessed, for example.
void require_data_folder(std::string_view option, const std::string& path);

/// kInputOutput, saying where the model is or how to make it, where `path` is something else that a training leaves: a
/// file of a model, a checkpoint, a folder of checkpoints, the output of a run.
void require_model_folder(const std::string& path);

/// Of a folder of checkpoints, or of the output of a run; "": there is none.
[[nodiscard]] std::string newest_checkpoint(const std::string& path);

/// Tells a person what there is to talk with; a program's input gets nothing but replies.
void greet(const Speaker& speaker, ChatInput input);

/// The defaults, then the file (where not ""), then the overrides of the command line, checked.
[[nodiscard]] Config effective_config(const Program& program, const std::string& config_path);

/// The back end of a process by itself; kAuto is the GPU where there is one that can be used, else the CPU. Threads 0:
/// the cores of the host divided by `local_ranks`. kDevice where the kind is not built or the machine lacks it.
[[nodiscard]] std::unique_ptr<Backend> open_device(const DeviceConfig& config, int local_ranks);

/// What a rank computes on and sums with. The communicator works on the back end's memory and goes first.
struct RankDevice {
    std::unique_ptr<Backend> backend;
    std::unique_ptr<Communicator> communicator;
};

/// Every rank calls it. Errors: kDevice as open_device() and where there are fewer GPUs than ranks on a host,
/// kConfiguration where the communicator cannot work on the device.
[[nodiscard]] RankDevice open_rank_device(const DeviceConfig& device, const DistributedConfig& distributed,
                                          World& world);

}  // namespace duologue
