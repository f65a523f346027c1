// duologue-preprocess: the command line.
#include <fmt/format.h>

#include <csignal>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "demo_corpus.h"
#include "duologue/arguments/command_line.h"
#include "duologue/core/error.h"
#include "duologue/core/log.h"
#include "duologue/core/report.h"
#include "options.h"
#include "preprocess.h"

namespace {

using duologue::preprocess::Format;
using duologue::preprocess::OnError;
using duologue::preprocess::PreprocessOptions;

using duologue::between;
using duologue::Choices;
using duologue::Command;
using duologue::CommandLine;

const Choices<Format> kFormats{{"auto", Format::kAuto},
                               {"jsonl", Format::kJsonLines},
                               {"text", Format::kText},
                               {"eou", Format::kEndOfUtterance},
                               {"topical-chat", Format::kTopicalChat}};
const Choices<duologue::Punctuation> kPunctuations{{"keep", duologue::Punctuation::kKeep},
                                                   {"drop", duologue::Punctuation::kDrop}};
const Choices<duologue::LetterCase> kLetterCases{{"yes", duologue::LetterCase::kLower},
                                                 {"no", duologue::LetterCase::kAsIs}};
const Choices<OnError> kOnErrors{{"stop", OnError::kStop}, {"skip", OnError::kSkip}};

/// Notes in `given` that the argument was.
void note(duologue::Argument& argument, std::vector<std::string>& given) {
    argument.set = [set = std::move(argument.set), name = argument.names, &given](const std::string& value) {
        given.push_back(name);
        return set(value);
    };
}

/// `making`: the options given that say how a vocabulary is made.
void declare(Command& command, PreprocessOptions& options, std::vector<std::string>& making) {
    command.values("INPUT", "FILE", options.inputs, "conversation files; .gz and .zst are read as they are").required();
    command.value("--output", "DIR", options.output, "folder for vocabulary, shards and manifest").required();
    command.choice("--format", kFormats, options.format, "format of the inputs; auto: by how each begins");
    command.value("--vocabulary", "FILE", options.vocabulary,
                  "use this vocabulary, its words and rules, instead of making one");
    note(command.integer("--vocabulary-size", options.vocabulary_size,
                         between(duologue::Vocabulary::kSpecialTokens + 1, 1 << 30),
                         "words at most, 4 special tokens included"),
         making);
    note(command.integer("--min-count", options.min_count, between(1, 1e12), "rarer words become <unk>"), making);
    note(command.choice("--punctuation", kPunctuations, options.rules.punctuation,
                        "keep: each mark is a token; drop: left out"),
         making);
    note(command.choice("--lowercase", kLetterCases, options.rules.letter_case, "whether words are in lower case"),
         making);
    command.integer("--validation-percent", options.validation_percent, between(0, 99),
                    "share of conversations kept for validation");
    command.integer("--shard-tokens", options.shard_tokens, between(1, 1e12), "tokens of a shard");
    command.integer("--workers", options.workers, between(1, 4096), "threads; the result is the same for every number");
    command.choice("--on-error", kOnErrors, options.on_error, "what a malformed record does");
    command.integer("--seed", options.seed, duologue::at_least(0), "of the split");
}

struct DemoOptions {
    std::string output;
    std::int64_t conversations = 20000;
    std::uint64_t seed = 1;
};

void declare_demo(Command& demo, DemoOptions& options) {
    demo.value("--output", "FILE", options.output, "JSON-lines file to write").required();
    demo.integer("--conversations", options.conversations, between(1, 1e12), "how many");
    demo.integer("--seed", options.seed, duologue::at_least(0), "another seed gives other conversations");
    demo.run = [&options] {
        duologue::preprocess::write_demo_corpus(options.output, options.conversations, options.seed);
        return 0;
    };
}

void print_summary(const duologue::Manifest& manifest, const std::string& folder) {
    duologue::DataCounts all = manifest.counts(duologue::Split::kTrain);
    const duologue::DataCounts validation = manifest.counts(duologue::Split::kValidation);
    all += validation;
    const double unknown =
        all.tokens == 0 ? 0.0 : 100.0 * static_cast<double>(all.unknown_tokens) / static_cast<double>(all.tokens);
    fmt::print("conversations {}  turns {}  tokens {}\n", all.conversations, all.turns, all.tokens);
    fmt::print("validation: conversations {}  turns {}  tokens {}\n", validation.conversations, validation.turns,
               validation.tokens);
    fmt::print("vocabulary {} words, {:.2f} % of the tokens unknown\n", manifest.vocabulary_size, unknown);
    if (manifest.word_count_error > 0) {
        fmt::print("vocabulary inexact: rare words were forgotten while counting, so a count can be too low by {}\n",
                   manifest.word_count_error);
    }
    fmt::print("dropped: {} without a word, {} without a turn\n", duologue::count_text(manifest.dropped_turns, "turn"),
               duologue::count_text(manifest.dropped_conversations, "conversation"));
    fmt::print("{} in {}\n", duologue::count_text(std::ssize(manifest.shards), "shard"), folder);
}

int run(const std::vector<std::string>& arguments) {
    CommandLine line("duologue-preprocess", DUOLOGUE_VERSION,
                     "Turns conversations into a vocabulary and HDF5 shards of token ids.");
    PreprocessOptions options;
    std::vector<std::string> making;
    declare(line.itself(), options, making);
    line.itself().run = [&options, &making] {
        duologue::require(options.vocabulary.empty() || making.empty(), duologue::ErrorCode::kConfiguration,
                          "--vocabulary gives the words and their rules: leave it out, or {}. "
                          "`duologue-preprocess --help` lists all options.",
                          fmt::join(making, " and "));
        print_summary(duologue::preprocess::preprocess(options, duologue::Log()), options.output);
        return 0;
    };
    DemoOptions demo_options;
    declare_demo(line.add_command("demo", "write conversations from a small grammar, with checkable replies"),
                 demo_options);
    return line.read(arguments)();
}

}  // namespace

int main(int argc, char** argv) {
    std::signal(SIGXFSZ, SIG_IGN);  // a limit on file sizes is an error of the write, as a full disk is
    try {
        return run({argv + 1, argv + argc});
    } catch (const duologue::Error& error) {
        fmt::print(stderr, "error: {}\n", error.what());
        return error.exit_status();
    } catch (const std::exception& error) {
        fmt::print(stderr, "internal error: {}\n", error.what());
        return static_cast<int>(duologue::ErrorCode::kInternal);
    }
}
