// duologue chat: talk with a saved model.
#include <iostream>

#include "commands/program.h"
#include "duologue/chat/speaker.h"
#include "duologue/core/log.h"

namespace duologue {

namespace {

struct ChatArguments {
    std::string model;
    std::vector<std::string> prompts;
};

int chat(Program& program, const ChatArguments& arguments) {
    require_sections(program, {"chat", "device"});
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

}  // namespace

void greet(const Speaker& speaker, ChatInput input) {
    if (input != ChatInput::kEditing && input != ChatInput::kForwarded) return;
    std::cout << fmt::format("{}, {} words, {} of training. /help lists commands, /quit ends.",
                             parameter_text(speaker.model().parameters().parameters()), speaker.vocabulary().size(),
                             count_text(speaker.card().steps, "step"))
              << std::endl;
}

void add_sampling_options(CLI::App& command, Program& program) {
    struct ShortForm {
        const char* option;
        const char* key;
        const char* help;
    };
    for (const ShortForm& form : {ShortForm{"--temperature", "chat.temperature", "0: always the likeliest word"},
                                  ShortForm{"--top-k", "chat.top_k", "choose among so many words; 0: all"},
                                  ShortForm{"--top-p", "chat.top_p", "choose among words of this probability together"},
                                  ShortForm{"--repetition-penalty", "chat.repetition_penalty", "1: none"},
                                  ShortForm{"--seed", "chat.seed", "of the choice of words"}}) {
        const std::string key = form.key;
        command.add_option_function<std::string>(
            form.option,
            [&program, key](const std::string& value) {
                program.overrides.push_back({key, value});
            },
            form.help);
    }
}

void declare_chat(Program& program) {
    const auto arguments = std::make_shared<ChatArguments>();
    CLI::App* command = program.app.add_subcommand("chat", "talk with a saved model");
    command->add_option("model,--model", arguments->model, "folder of the saved model, for example OUT/model")
        ->required();
    command->add_option("--prompt", arguments->prompts, "say this instead of asking; repeated: a conversation")
        ->allow_extra_args(false);
    add_sampling_options(*command, program);
    command->callback(
        [&program, arguments] { program.run = [&program, arguments] { return chat(program, *arguments); }; });
}

}  // namespace duologue
