// duologue evaluate: the loss on held-out data, and the share of right replies.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>

#include "commands/program.h"
#include "duologue/arguments/config_options.h"
#include "duologue/chat/evaluation.h"
#include "duologue/chat/speaker.h"
#include "duologue/core/error.h"
#include "duologue/core/log.h"
#include "duologue/data/shards.h"
#include "duologue/train/validation.h"

namespace duologue {

namespace {

struct EvaluateArguments {
    std::string model;
    std::string conversations;
    std::string data;
    std::int64_t limit = 0;
    std::int64_t show = 0;
    ReportStyle style = ReportStyle::kText;
};

/// How far an evaluation is, on standard error: one line in place on a terminal, elsewhere a line every ten seconds.
class EvaluationProgress {
   public:
    ~EvaluationProgress() {
        if (on_terminal_ && drawn_) fmt::print(stderr, "\r\033[K");
    }
    EvaluationProgress() = default;
    EvaluationProgress(const EvaluationProgress&) = delete;
    EvaluationProgress& operator=(const EvaluationProgress&) = delete;
    EvaluationProgress(EvaluationProgress&&) = delete;
    EvaluationProgress& operator=(EvaluationProgress&&) = delete;

    void show(std::int64_t done, std::int64_t all, std::string_view what) {
        const auto now = Clock::now();
        if (now - shown_ < (on_terminal_ ? kRedrawn : kRepeated)) return;
        shown_ = now;
        drawn_ = true;
        const std::string line = fmt::format("{} of {} {}", done, all, what);
        if (on_terminal_) {
            fmt::print(stderr, "\r\033[K{}", line);
        } else {
            Log().info("{}", line);
        }
    }

   private:
    using Clock = std::chrono::steady_clock;
    static constexpr std::chrono::milliseconds kRedrawn{200};
    static constexpr std::chrono::milliseconds kRepeated{10000};
    bool on_terminal_ = isatty(STDERR_FILENO) == 1;
    bool drawn_ = false;
    Clock::time_point shown_ = Clock::now();
};

/// The validation split of `folder`, cut into sources and replies as the model was trained on them.
DataConfig held_out_data(const std::string& folder, const ModelCard& card) {
    DataConfig data;
    data.path = folder;
    data.max_context_tokens = card.max_context_tokens;
    data.max_reply_tokens = card.max_reply_tokens;
    data.micro_batch_tokens = std::max(data.micro_batch_tokens, card.max_context_tokens);
    return data;
}

void require_same_words(const Manifest& manifest, const Speaker& speaker, const EvaluateArguments& arguments) {
    require(manifest.vocabulary_hash == speaker.vocabulary().hash(), ErrorCode::kData,
            "'{}' was preprocessed with the vocabulary {}, the model in '{}' knows {}; preprocess with "
            "--vocabulary {}/{}",
            arguments.data, manifest.vocabulary_hash, arguments.model, speaker.vocabulary().hash(), arguments.model,
            kVocabularyFile);
}

Report evaluate_loss(Speaker& speaker, const EvaluateArguments& arguments) {
    require_same_words(Manifest::load(arguments.data), speaker, arguments);
    const DataConfig data = held_out_data(arguments.data, speaker.card());
    const ModelKind kind = speaker.card().model.kind;
    const std::vector<Batch> batches = load_validation_batches(data, kind);
    require(!batches.empty(), ErrorCode::kData,
            "'{}' has no validation split to evaluate on; preprocess with --validation-percent above 0",
            arguments.data);
    EvaluationProgress progress;
    const HeldOutLoss held_out =
        held_out_loss(speaker.backend(), speaker.model(), speaker.weights(), batch_capacity(data, kind), batches,
                      [&](std::int64_t done, std::int64_t all) {
                          progress.show(done, all, "micro-batches of the validation split");
                      });
    return {{"target_tokens", held_out.labels},
            {"loss", held_out.loss},
            {"perplexity", std::exp(held_out.loss)},
            {"unigram_loss", held_out.unigram_loss},
            {"unigram_perplexity", std::exp(held_out.unigram_loss)}};
}

Scores check_replies(Speaker& speaker, const EvaluateArguments& arguments) {
    const std::vector<CheckedConversation> conversations = load_checked_conversations(arguments.conversations);
    std::int64_t all = 0;
    for (const CheckedConversation& conversation : conversations) all += std::ssize(conversation.checks);
    if (arguments.limit > 0) all = std::min(all, arguments.limit);
    EvaluationProgress progress;
    std::int64_t done = 0;
    const auto on_reply = [&](const CheckedReply& reply) {
        if (done < arguments.show) {
            fmt::print(stderr, "{} {:<20} {}  ->  {}\n", reply.right ? "right" : "WRONG", reply.check.kind,
                       reply.question, reply.reply);
        }
        progress.show(++done, all, "replies");
    };
    return evaluate_checks(speaker.generator(), speaker.vocabulary(), speaker.card().max_context_tokens, conversations,
                           arguments.limit, on_reply);
}

Report describe_score(const std::string& kind, const Report& distance, const Score& score) {
    return {{"kind", kind},
            {"turns_later", distance},
            {"asked", score.asked},
            {"right", score.right},
            {"share", score.share()}};
}

/// One row per kind of check; facts that are asked 1, 2 and 3 turns later have one each.
Report describe_scores(const Scores& scores) {
    Report rows = Report::array();
    for (const auto& [group, score] : scores) {
        rows.push_back(describe_score(group.kind, group.distance > 0 ? Report(group.distance) : Report(), score));
    }
    rows.push_back(describe_score("all", Report(), total(scores)));
    return rows;
}

int evaluate(const Program& program, const EvaluateArguments& arguments) {
    require(!arguments.data.empty() || !arguments.conversations.empty(), ErrorCode::kConfiguration,
            "nothing to evaluate on: give --data DIR (preprocessed), --conversations FILE (with checks), or both");
    require_data_folder("--data", arguments.data);
    require_model_folder(arguments.model);
    const Config config = effective_config(program, "");
    Speaker speaker(load_model(arguments.model), open_device(config.device, 1));
    Report report;
    if (!arguments.data.empty()) report["validation"] = evaluate_loss(speaker, arguments);
    if (!arguments.conversations.empty()) {
        report["checkable_replies"] = describe_scores(check_replies(speaker, arguments));
    }
    fmt::print("{}", render(report, arguments.style));
    return 0;
}

}  // namespace

void declare_evaluate(Program& program) {
    const auto arguments = std::make_shared<EvaluateArguments>();
    Command& command = program.line.add_command("evaluate", "how good a saved model is");
    command.value("MODEL,--model", "DIR", arguments->model, "folder of the saved model").required();
    command.value("--data", "DIR", arguments->data,
                  "folder of preprocessed data: loss and perplexity on its validation split, beside those of a model "
                  "that knows only how frequent each word is");
    command.value("--conversations", "FILE", arguments->conversations,
                  "JSON lines with checks, for example of `duologue-preprocess demo`: the share of right replies, by "
                  "kind and by how many turns ago the answer was said. Take conversations that the model was not "
                  "trained on: the demo's with another --seed");
    command.integer("--limit", arguments->limit, between(0, 1e12), "check only so many replies; 0: all");
    command.integer("--show", arguments->show, between(0, 1e12), "print so many replies on standard error");
    add_json_option(command, arguments->style);
    add_config_options(command, "device.", program.overrides);
    command.run = [&program, arguments] { return evaluate(program, *arguments); };
}

}  // namespace duologue
