// duologue chat: talk with a saved model.
#include <algorithm>
#include <iostream>

#include "commands/program.h"
#include "duologue/arguments/config_options.h"
#include "duologue/chat/speaker.h"
#include "duologue/core/log.h"

namespace duologue {

namespace {

struct ChatArguments {
    std::string model;
    std::vector<std::string> prompts;
};

int chat(Program& program, const ChatArguments& arguments) {
    require_model_folder(arguments.model);
    const Config config = effective_config(program, "");
    Speaker speaker(load_model(arguments.model), open_device(config.device, 1));
    Session session(speaker.generator(), speaker.vocabulary(), config.chat, speaker.card().max_context_tokens);
    ChatTerminal terminal{.input = detect_input(program.environment.started),
                          .history_path = program.environment.history_path};
    if (!arguments.prompts.empty()) {
        terminal.input = ChatInput::kText;
        for (const std::string& prompt : arguments.prompts) terminal.text += prompt + "\n";
    }
    greet(speaker, terminal.input);
    program.stop_on_signals(StopOn::kInterrupt);
    (void)run_chat(session, terminal, program.stop.wanted);
    return 0;
}

/// --temperature for --chat.temperature, and so on. What is for the chat at the end of a training has no effect here.
void add_sampling_options(Command& command, std::vector<Override>& overrides) {
    for (const OptionHelp& option : option_help()) {
        if (!option.key.starts_with("chat.") || option.key == "chat.at_end" || option.key == "chat.prompts") continue;
        std::string name = option.key.substr(option.key.find('.') + 1);
        std::replace(name.begin(), name.end(), '_', '-');
        Argument& argument = add_config_option(command, option, overrides);
        argument.names = fmt::format("--{},--{}", name, option.key);
        argument.times = Times::kOnce;
    }
}

}  // namespace

void greet(const Speaker& speaker, ChatInput input) {
    if (input != ChatInput::kEditing && input != ChatInput::kForwarded) return;
    std::cout << fmt::format("{}, {} words, {} of training. /help lists commands, /quit ends.",
                             parameter_text(speaker.model().parameters().parameters()), speaker.vocabulary().size(),
                             count_text(speaker.card().steps, "step"))
              << std::endl;
}

void declare_chat(Program& program) {
    const auto arguments = std::make_shared<ChatArguments>();
    Command& command = program.line.add_command("chat", "talk with a saved model");
    command.value("MODEL,--model", "DIR", arguments->model, "folder of the saved model, for example OUT/model")
        .required();
    command.values("--prompt", "TEXT", arguments->prompts, "say this instead of asking; several: a conversation");
    add_sampling_options(command, program.overrides);
    add_config_options(command, "device.", program.overrides);
    command.run = [&program, arguments] { return chat(program, *arguments); };
}

}  // namespace duologue
