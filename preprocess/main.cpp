// duologue-preprocess: the command line.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <exception>
#include <map>

#include "demo_corpus.h"
#include "duologue/config/nearest.h"
#include "duologue/core/error.h"
#include "duologue/core/log.h"
#include "duologue/core/report.h"
#include "options.h"
#include "preprocess.h"

namespace {

using duologue::preprocess::Format;
using duologue::preprocess::OnError;
using duologue::preprocess::PreprocessOptions;

const std::map<std::string, Format> kFormats{{"auto", Format::kAuto},
                                             {"jsonl", Format::kJsonLines},
                                             {"text", Format::kText},
                                             {"eou", Format::kEndOfUtterance},
                                             {"topical-chat", Format::kTopicalChat}};
const std::map<std::string, duologue::Punctuation> kPunctuations{{"keep", duologue::Punctuation::kKeep},
                                                                 {"drop", duologue::Punctuation::kDrop}};
const std::map<std::string, duologue::LetterCase> kLetterCases{{"yes", duologue::LetterCase::kLower},
                                                               {"no", duologue::LetterCase::kAsIs}};
const std::map<std::string, OnError> kOnErrors{{"stop", OnError::kStop}, {"skip", OnError::kSkip}};

void declare(CLI::App& app, PreprocessOptions& options) {
    app.add_option("INPUT", options.inputs, "conversation files; .gz and .zst are read as they are");
    app.add_option("--output", options.output, "folder for vocabulary, shards and manifest")->type_name("DIR");
    app.add_option("--format", options.format, "format of the inputs")->transform(CLI::Transformer(kFormats));
    app.add_option("--vocabulary", options.vocabulary, "use this vocabulary instead of making one")->type_name("FILE");
    app.add_option("--vocabulary-size", options.vocabulary_size, "words at most, 4 special tokens included")
        ->capture_default_str();
    app.add_option("--min-count", options.min_count, "rarer words become <unk>")->capture_default_str();
    app.add_option("--punctuation", options.rules.punctuation, "keep: each mark is a token; drop: left out")
        ->transform(CLI::Transformer(kPunctuations));
    app.add_option("--lowercase", options.rules.letter_case, "yes or no")->transform(CLI::Transformer(kLetterCases));
    app.add_option("--validation-percent", options.validation_percent, "share of conversations kept for validation")
        ->capture_default_str();
    app.add_option("--shard-tokens", options.shard_tokens, "tokens of a shard")->capture_default_str();
    app.add_option("--workers", options.workers, "threads; the result is the same for every number")
        ->capture_default_str();
    app.add_option("--on-error", options.on_error, "what a malformed record does: stop or skip")
        ->transform(CLI::Transformer(kOnErrors));
    app.add_option("--seed", options.seed, "seed of the split")->capture_default_str();
}

struct DemoOptions {
    std::string output;
    std::int64_t conversations = 20000;
    std::uint64_t seed = 1;
};

CLI::App& declare_demo(CLI::App& app, DemoOptions& options) {
    CLI::App& demo = *app.add_subcommand("demo", "write conversations from a small grammar, with checkable replies");
    demo.add_option("--output", options.output, "JSON-lines file to write")->type_name("FILE")->required();
    demo.add_option("--conversations", options.conversations, "how many")->capture_default_str();
    demo.add_option("--seed", options.seed, "another seed gives other conversations")->capture_default_str();
    return demo;
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

std::vector<std::string> options_of(const CLI::App& app) {
    std::vector<std::string> names;
    for (const CLI::Option* option : app.get_options()) {
        for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    }
    return names;
}

int run(int argc, char** argv) {
    CLI::App app("Turns conversations into a vocabulary and HDF5 shards of token ids.", "duologue-preprocess");
    PreprocessOptions options;
    declare(app, options);
    DemoOptions demo_options;
    const CLI::App& demo = declare_demo(app, demo_options);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        const std::string unknown =
            duologue::unknown_option({argv + 1, argv + argc}, options_of(demo.parsed() ? demo : app));
        duologue::require(error.get_exit_code() == 0 || unknown.empty(), duologue::ErrorCode::kConfiguration,
                          "{} `duologue-preprocess {}--help` lists them.", unknown, demo.parsed() ? "demo " : "");
        return app.exit(error) == 0 ? 0 : static_cast<int>(duologue::ErrorCode::kConfiguration);
    }
    if (demo.parsed()) {
        duologue::preprocess::write_demo_corpus(demo_options.output, demo_options.conversations, demo_options.seed);
        return 0;
    }
    const duologue::Log log;
    print_summary(duologue::preprocess::preprocess(options, log), options.output);
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    std::signal(SIGXFSZ, SIG_IGN);  // a limit on file sizes is an error of the write, as a full disk is
    try {
        return run(argc, argv);
    } catch (const duologue::Error& error) {
        fmt::print(stderr, "error: {}\n", error.what());
        return error.exit_status();
    } catch (const std::exception& error) {
        fmt::print(stderr, "internal error: {}\n", error.what());
        return static_cast<int>(duologue::ErrorCode::kInternal);
    }
}
