// duologue evaluate: the share of right replies, and the loss on held-out data.
#include <unistd.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "commands/program.h"
#include "duologue/chat/evaluation.h"
#include "duologue/chat/speaker.h"
#include "duologue/core/error.h"

namespace duologue {

namespace {

struct EvaluateArguments {
    std::string model;
    std::string conversations;
    std::string data;
    std::int64_t limit = 0;
    std::int64_t show = 0;
    bool as_json = false;
};

std::string name_of(const CheckGroup& group) {
    if (group.distance == 0) return group.kind;
    return fmt::format("{}, {} {} later", group.kind, group.distance, group.distance == 1 ? "turn" : "turns");
}

void print_scores(const Scores& scores) {
    fmt::print("{:<32}{:>8}{:>8}{:>9}\n", "replies that can be checked", "asked", "right", "share");
    const auto row = [](const std::string& name, const Score& score) {
        fmt::print("{:<32}{:>8}{:>8}{:>8.1f}%\n", name, score.asked, score.right, 100.0 * score.share());
    };
    for (const auto& [group, score] : scores) row(name_of(group), score);
    row("all", total(scores));
}

nlohmann::ordered_json as_json(const Scores& scores) {
    nlohmann::ordered_json groups = nlohmann::ordered_json::array();
    for (const auto& [group, score] : scores) {
        groups.push_back({{"kind", group.kind},
                          {"distance", group.distance},
                          {"asked", score.asked},
                          {"right", score.right},
                          {"share", score.share()}});
    }
    const Score all = total(scores);
    return {{"groups", groups}, {"asked", all.asked}, {"right", all.right}, {"share", all.share()}};
}

Scores check_replies(Speaker& speaker, const EvaluateArguments& arguments) {
    const bool progress = isatty(STDERR_FILENO) == 1;
    std::int64_t done = 0;
    const auto on_reply = [&](const CheckedReply& reply) {
        if (done < arguments.show) {
            fmt::print("{} {:<20} {}  ->  {}\n", reply.right ? "right" : "WRONG", reply.check.kind, reply.question,
                       reply.reply);
        }
        ++done;
        if (progress && done % 50 == 0) fmt::print(stderr, "\r{} replies", done);
    };
    Scores scores = evaluate_checks(speaker.generator(), speaker.vocabulary(), speaker.card().max_context_tokens,
                                    load_checked_conversations(arguments.conversations), arguments.limit, on_reply);
    if (progress) fmt::print(stderr, "\r\033[K");
    return scores;
}

int evaluate(const Program& program, const EvaluateArguments& arguments) {
    require_sections(program, {"device"});
    const Config config = effective_config(program, "");
    Speaker speaker(load_model(arguments.model), open_device(config.device, 1));
    const Scores scores = check_replies(speaker, arguments);
    if (arguments.as_json) {
        fmt::print("{}\n", as_json(scores).dump(2));
    } else {
        print_scores(scores);
    }
    return 0;
}

}  // namespace

void declare_evaluate(Program& program) {
    const auto arguments = std::make_shared<EvaluateArguments>();
    CLI::App* command = program.app.add_subcommand("evaluate", "how good a saved model is");
    command->add_option("model,--model", arguments->model, "folder of the saved model")->required();
    command->add_option("--conversations", arguments->conversations,
                        "JSON lines with checks, for example of `duologue-preprocess demo`");
    command->add_option("--limit", arguments->limit, "check only so many replies");
    command->add_option("--show", arguments->show, "print so many replies");
    command->add_flag("--json", arguments->as_json, "print the figures as JSON");
    command->callback(
        [&program, arguments] { program.run = [&program, arguments] { return evaluate(program, *arguments); }; });
}

}  // namespace duologue
