// Prompts, colours and the loop of a chat.
#include "duologue/chat/terminal.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <termios.h>
#include <unistd.h>

#include <iostream>

#include "line_reader.h"

namespace duologue {

namespace {

/// How the sides of the conversation look.
struct Style {
    std::string person;
    std::string model;
    std::string notice;
    std::string plain;
};

Style style_of(ChatInput input) {
    if (input == ChatInput::kEditing) return {"you> ", "\033[36mbot>\033[0m ", "\033[2m", "\033[0m"};
    if (input == ChatInput::kPiped) return {};
    return {"you> ", "bot> ", "", ""};
}

/// Replies word by word on standard output, each begun with the model's sign.
SessionOutput output_in(const Style& style, ChatInput input, bool& speaking) {
    const auto reply = [&style, &speaking](std::string_view text) {
        if (!speaking) std::cout << style.model;
        speaking = true;
        std::cout << text << std::flush;
    };
    const auto end_reply = [&speaking] {
        speaking = false;
        std::cout << std::endl;
    };
    const auto notice = [&style, input](std::string_view line) {
        (input == ChatInput::kPiped ? std::cerr : std::cout) << style.notice << line << style.plain << std::endl;
    };
    return {.reply = reply, .end_reply = end_reply, .notice = notice};
}

std::unique_ptr<LineReader> reader_of(const ChatTerminal& terminal, const Style& style,
                                      const std::atomic<bool>& interrupted) {
    if (terminal.input == ChatInput::kEditing) return make_editing_reader(style.person, terminal.history_path);
    if (terminal.input == ChatInput::kText) return make_text_reader(terminal.text);
    return make_plain_reader(style.person, interrupted);
}

/// Whether the process that started this one reads from a terminal; it is then a person whose lines it forwards.
bool parent_reads_terminal() {
    const std::string path = fmt::format("/proc/{}/fd/0", getppid());
    const int descriptor = open(path.c_str(), O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (descriptor < 0) return false;
    const bool terminal = isatty(descriptor) == 1;
    close(descriptor);
    return terminal;
}

}  // namespace

ChatInput detect_input(Started started) {
    if (started == Started::kForAPerson) return ChatInput::kForwarded;
    if (isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1) return ChatInput::kEditing;
    if (started == Started::kByLauncher && parent_reads_terminal()) return ChatInput::kForwarded;
    return ChatInput::kPiped;
}

void forget_what_was_typed(ChatInput input) {
    if (input == ChatInput::kEditing) tcflush(STDIN_FILENO, TCIFLUSH);
    if (input != ChatInput::kForwarded) return;
    pollfd forwarded{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
    char piece[4096];
    while (poll(&forwarded, 1, 0) == 1 && read(STDIN_FILENO, piece, sizeof piece) > 0) {
    }
}

std::int64_t run_chat(Session& session, const ChatTerminal& terminal, std::atomic<bool>& interrupted) {
    const Style style = style_of(terminal.input);
    bool speaking = false;
    const SessionOutput output = output_in(style, terminal.input, speaking);
    const std::unique_ptr<LineReader> reader = reader_of(terminal, style, interrupted);
    std::int64_t lines = 0;
    while (true) {
        interrupted = false;
        const std::optional<std::string> line = reader->next();
        if (!line || interrupted) return lines;
        ++lines;
        if (terminal.input == ChatInput::kText) std::cout << style.person << *line << std::endl;
        if (session.handle(*line, output, interrupted) == AfterLine::kQuit) return lines;
        // A person stops a reply and goes on talking; a program that is interrupted has to end.
        if (interrupted && terminal.input != ChatInput::kEditing) return lines;
    }
}

}  // namespace duologue
