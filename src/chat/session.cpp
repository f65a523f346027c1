// Turns of a conversation and the commands about it.
#include "duologue/chat/session.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "duologue/config/nearest.h"
#include "duologue/core/error.h"
#include "duologue/core/random.h"
#include "duologue/data/tokenizer.h"

namespace duologue {

namespace {

constexpr std::size_t kShownProbabilities = 10;

std::string_view trimmed(std::string_view text) {
    const std::size_t begin = text.find_first_not_of(" \t\r\n");
    if (begin == std::string_view::npos) return "";
    return text.substr(begin, text.find_last_not_of(" \t\r\n") + 1 - begin);
}

/// The line without what keys such as the arrows send (ECMA-48: ESC [ ... letter) where nobody edits the line, and
/// without other control characters.
std::string without_keys(std::string_view line) {
    std::string plain;
    for (std::size_t i = 0; i < line.size(); ++i) {
        if (line.substr(i).starts_with("\033[")) {
            i = std::min(line.find_first_not_of("0123456789;?", i + 2), line.size());
        } else {
            plain += line[i] >= '\0' && line[i] < ' ' ? ' ' : line[i];
        }
    }
    return plain;
}

/// The words of a line, and those that the model does not know; nothing where it is not valid UTF-8.
struct Understood {
    std::vector<std::int32_t> words;
    std::vector<std::string> unknown;  // each once
};

std::optional<Understood> understand(const Vocabulary& vocabulary, std::string_view line) {
    Understood result;
    std::set<std::string> seen;
    const std::int64_t invalid = for_each_word(line, vocabulary.rules(), [&](std::string_view word) {
        result.words.push_back(vocabulary.id(word));
        if (result.words.back() != Vocabulary::kUnknown) return;
        if (seen.emplace(word).second) result.unknown.emplace_back(word);
    });
    return invalid < 0 ? std::optional(result) : std::nullopt;
}

/// The first bytes of a word, whole code points, where it is long.
std::string shortened(const std::string& word) {
    constexpr std::size_t kMostBytes = 40;
    if (word.size() <= kMostBytes) return word;
    std::size_t end = kMostBytes;
    while ((static_cast<unsigned char>(word[end]) & 0xc0) == 0x80) --end;
    return word.substr(0, end) + "...";
}

std::string unknown_text(const std::vector<std::string>& words) {
    constexpr std::size_t kMostWords = 10;
    std::string text;
    for (std::size_t i = 0; i < std::min(words.size(), kMostWords); ++i) {
        text += (i == 0 ? "" : ", ") + shortened(words[i]);
    }
    if (words.size() > kMostWords) text += fmt::format(" and {} more", words.size() - kMostWords);
    return text;
}

}  // namespace

Session::Session(Generator& generator, const Vocabulary& vocabulary, ChatConfig config, std::int64_t max_context_tokens)
    : generator_(generator),
      vocabulary_(vocabulary),
      config_(std::move(config)),
      max_context_tokens_(max_context_tokens) {}

AfterLine Session::handle(std::string_view line, const SessionOutput& output, const std::atomic<bool>& interrupted) {
    const std::string plain = without_keys(line);
    line = trimmed(plain);
    if (line.starts_with('/')) return run_command(line, output);
    if (!line.empty()) answer(line, output, interrupted);
    return AfterLine::kGoOn;
}

void Session::answer(std::string_view line, const SessionOutput& output, const std::atomic<bool>& interrupted) {
    const std::optional<Understood> understood = understand(vocabulary_, line);
    if (!understood) return output.notice("This line is not valid UTF-8 text; nothing was said.");
    if (understood->words.empty()) return output.notice("There is no word in this line; nothing was said.");
    if (!understood->unknown.empty()) {
        output.notice(fmt::format("Not in the vocabulary: {}.", unknown_text(understood->unknown)));
    }
    hear(understood->words, line);
    Turn turn{.side = Side::kModel, .words = {}, .text = {}};
    const auto say = [&](std::string_view text) {
        turn.text += text;
        output.reply(text);
    };
    turn.words = generator_.reply(source_of(asked()), config_, mix_key(config_.seed, replies_++), say, interrupted);
    output.end_reply();
    if (!turn.words.empty()) turns_.push_back(std::move(turn));
}

void Session::hear(const std::vector<std::int32_t>& words, std::string_view line) {
    if (turns_.empty() || turns_.back().side != Side::kPerson) {
        turns_.push_back({.side = Side::kPerson, .words = words, .text = std::string(line)});
        return;
    }
    Turn& turn = turns_.back();
    turn.words.insert(turn.words.end(), words.begin(), words.end());
    turn.text.append(" ").append(line);
}

std::vector<TurnTokens> Session::asked() const {
    std::size_t count = turns_.size();
    while (count > 0 && turns_[count - 1].side == Side::kModel) --count;
    std::vector<TurnTokens> turns;
    for (std::size_t i = 0; i < count; ++i) turns.emplace_back(turns_[i].words);
    return turns;
}

std::vector<std::int32_t> Session::source_of(const std::vector<TurnTokens>& turns) const {
    std::vector<std::int32_t> source;
    append_context(source, turns, max_context_tokens_);
    return source;
}

Session::Command Session::setting(const std::string& name, const std::string& help, const SessionOutput& output) {
    const std::string key = "chat." + name;
    const auto run = [this, name, key, &output](std::string_view value) {
        Config config;
        config.chat = config_;
        if (value.empty()) {
            const auto options = nlohmann::json::parse(print_config(config));
            output.notice(fmt::format("{} = {}", key, options["chat"][name].dump()));
            return AfterLine::kGoOn;
        }
        const std::string problem = try_option(config, key, value);
        config_ = config.chat;
        output.notice(problem.empty() ? fmt::format("{} = {}", key, value) : problem + ".");
        return AfterLine::kGoOn;
    };
    return {"/" + name, "[X]", help, run};
}

std::vector<Session::Command> Session::commands(const SessionOutput& output) {
    const auto then_go_on = [](const auto& action) {
        return [action](std::string_view argument) {
            action(argument);
            return AfterLine::kGoOn;
        };
    };
    const auto help = [this, &output](std::string_view) {
        for (const Command& command : commands(output)) {
            output.notice(fmt::format("{:<24} {}", command.name + " " + command.argument, command.help));
        }
    };
    const auto reset = [this, &output](std::string_view) {
        turns_.clear();
        replies_ = 0;
        output.notice("The conversation begins anew.");
    };
    return {
        {"/help", "", "this list", then_go_on(help)},
        {"/reset", "", "forget the conversation", then_go_on(reset)},
        {"/context", "", "what the next reply is given of the conversation",
         then_go_on([this, &output](std::string_view) { show_context(output); })},
        {"/probabilities", "[WORDS]", "likeliest next words of a reply that begins with WORDS",
         then_go_on([this, &output](std::string_view words) { show_probabilities(words, output); })},
        setting("temperature", "0: always the likeliest word; higher: more variety", output),
        setting("top_k", "choose among the X likeliest words; 0: all", output),
        setting("top_p", "choose among the fewest words of probability X", output),
        setting("repetition_penalty", "above 1: repeat fewer words", output),
        setting("seed", "of the choice of words", output),
        {"/save", "FILE", "write the conversation to FILE, a new one",
         then_go_on([this, &output](std::string_view path) { save(path, output); })},
        {"/quit", "", "leave", [](std::string_view) { return AfterLine::kQuit; }},
    };
}

AfterLine Session::run_command(std::string_view line, const SessionOutput& output) {
    const std::size_t space = std::min(line.find_first_of(" \t"), line.size());
    const std::string_view name = line.substr(0, space);
    const std::vector<Command> known = commands(output);
    std::vector<std::string> names;
    for (const Command& command : known) {
        names.push_back(command.name);
        if (command.name != name) continue;
        const std::string_view argument = trimmed(line.substr(space));
        if (argument.empty() || !command.argument.empty()) return command.run(argument);
        output.notice(fmt::format("{} takes nothing after it; nothing was done.", name));
        return AfterLine::kGoOn;
    }
    output.notice(fmt::format("There is no command {}.{} /help lists them.", name, suggestion(name, names)));
    return AfterLine::kGoOn;
}

void Session::show_context(const SessionOutput& output) const {
    std::vector<TurnTokens> views;
    for (const Turn& turn : turns_) views.emplace_back(turn.words);
    const std::size_t used = context_turns(views, max_context_tokens_);
    output.notice(fmt::format("{} of {} turns, {} of {} tokens:", used, turns_.size(), source_of(views).size(),
                              max_context_tokens_));
    for (std::size_t i = turns_.size() - used; i < turns_.size(); ++i) {
        const char* side = turns_[i].side == Side::kPerson ? "you" : "bot";
        output.notice(fmt::format("  {}> {}", side, decode(vocabulary_, turns_[i].words)));
    }
}

void Session::show_probabilities(std::string_view beginning, const SessionOutput& output) {
    const std::vector<TurnTokens> turns = asked();
    if (turns.empty()) return output.notice("Say something first.");
    const std::optional<Understood> understood = understand(vocabulary_, beginning);
    if (!understood) return output.notice("This line is not valid UTF-8 text.");
    for (const WordProbability& word :
         generator_.next_words(source_of(turns), understood->words, kShownProbabilities)) {
        output.notice(fmt::format("  {:.6f}  {}", word.probability, vocabulary_.text(word.id)));
    }
}

void Session::save(std::string_view path, const SessionOutput& output) const {
    if (path.empty()) return output.notice("/save needs the name of a file.");
    if (std::error_code ignored; std::filesystem::exists(path, ignored)) {
        return output.notice(fmt::format("{} is there already and stays as it is; give /save another name.", path));
    }
    std::ofstream file{std::string(path)};
    for (const Turn& turn : turns_) file << (turn.side == Side::kPerson ? "you> " : "bot> ") << turn.text << '\n';
    file.close();
    output.notice(file ? fmt::format("{} turns written to {}.", turns_.size(), path)
                       : fmt::format("{} cannot be written; is the folder there and writable?", path));
}

}  // namespace duologue
