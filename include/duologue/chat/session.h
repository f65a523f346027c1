// Session: one conversation with a person: its turns, its context, its commands.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "duologue/chat/generator.h"
#include "duologue/config/config.h"
#include "duologue/data/context.h"
#include "duologue/data/vocabulary.h"

namespace duologue {

/// Where a session's words go.
struct SessionOutput {
    std::function<void(std::string_view text)> reply;   ///< a piece of a reply, as it is said
    std::function<void()> end_reply;                    ///< after the last piece
    std::function<void(std::string_view line)> notice;  ///< what the program, not the model, has to say
};

enum class AfterLine : std::uint8_t { kGoOn, kQuit };
enum class Side : std::uint8_t { kPerson, kModel };

class Session {
   public:
    /// `generator` and `vocabulary` must outlive the session. `max_context_tokens` is what the model was trained with.
    Session(Generator& generator, const Vocabulary& vocabulary, ChatConfig config, std::int64_t max_context_tokens);

    /// Answers one line: a command when it begins with '/', else a turn of the conversation. Mistakes of the person are
    /// answered by a notice, never by an Error. `interrupted` ends a reply early.
    [[nodiscard]] AfterLine handle(std::string_view line, const SessionOutput& output,
                                   const std::atomic<bool>& interrupted);

   private:
    struct Turn {
        Side side = Side::kPerson;
        std::vector<std::int32_t> words;
        std::string text;
    };
    struct Command {
        std::string name;
        std::string argument;
        std::string help;
        std::function<AfterLine(std::string_view argument)> run;
    };

    [[nodiscard]] std::vector<Command> commands(const SessionOutput& output);
    [[nodiscard]] Command setting(const std::string& name, const std::string& help, const SessionOutput& output);
    [[nodiscard]] AfterLine run_command(std::string_view line, const SessionOutput& output);
    void answer(std::string_view line, const SessionOutput& output, const std::atomic<bool>& interrupted);
    /// Adds words of the person. Where the reply before was interrupted ahead of its first word they go on with the
    /// last turn: consecutive turns of one speaker are one turn in training too.
    void hear(const std::vector<std::int32_t>& words, std::string_view line);

    void show_context(const SessionOutput& output) const;
    void show_probabilities(std::string_view beginning, const SessionOutput& output);
    void save(std::string_view path, const SessionOutput& output) const;

    /// The turns up to the latest one of the person.
    [[nodiscard]] std::vector<TurnTokens> asked() const;
    [[nodiscard]] std::vector<std::int32_t> source_of(const std::vector<TurnTokens>& turns) const;

    Generator& generator_;
    const Vocabulary& vocabulary_;
    ChatConfig config_;
    std::int64_t max_context_tokens_;
    std::vector<Turn> turns_;
    std::uint64_t replies_ = 0;
};

}  // namespace duologue
