// Terminal: a session between a model and whoever is at standard input.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "duologue/chat/session.h"

namespace duologue {

/// Where the lines come from.
enum class ChatInput : std::uint8_t {
    kEditing,    ///< a person at this process's terminal: line editing, history, colours
    kForwarded,  ///< a person at a terminal whose lines a launcher forwards: prompts, the terminal's own line editing
    kPiped,      ///< a program or a file: one prompt a line, only replies are printed
    kText,       ///< the prompts are given in `ChatTerminal::text`; they are printed too
};

struct ChatTerminal {
    ChatInput input = ChatInput::kPiped;
    std::string history_path;  ///< kEditing; "": no history is kept
    std::string text;          ///< kText: one prompt a line
};

/// How this process came to be.
enum class Started : std::uint8_t {
    kDirectly,
    kByLauncher,  ///< by mpirun, for example, so that standard input is a pipe even where a person is at its terminal
    kForAPerson,  ///< the launcher knows that what it forwards is typed at a terminal
};

/// Who is at standard input.
[[nodiscard]] ChatInput detect_input(Started started);

/// What a person has typed before the chat began was not said to the model. Nothing is forgotten of a pipe or a file.
void forget_what_was_typed(ChatInput input);

/// Talks until the input ends, /quit, or `interrupted` at the prompt; returns the number of lines read. Replies go to
/// standard output; with kPiped, what the program itself has to say goes to standard error.
std::int64_t run_chat(Session& session, const ChatTerminal& terminal, std::atomic<bool>& interrupted);

}  // namespace duologue
