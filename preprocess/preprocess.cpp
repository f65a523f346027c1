// The two passes and the final renaming.
#include "preprocess.h"

#include <filesystem>
#include <numeric>
#include <set>

#include "block_source.h"
#include "duologue/core/durable_file.h"
#include "duologue/core/error.h"
#include "duologue/core/report.h"
#include "encoder.h"
#include "ordered_map.h"
#include "output_folder.h"
#include "problem_log.h"
#include "progress.h"
#include "shard_writer.h"
#include "vocabulary_builder.h"

namespace duologue::preprocess {

namespace {

namespace fs = std::filesystem;

std::int64_t bytes_of(const std::vector<InputFile>& inputs) {
    return std::accumulate(inputs.begin(), inputs.end(), std::int64_t{0},
                           [](std::int64_t sum, const InputFile& input) { return sum + input.bytes; });
}

struct CountedWords {
    Vocabulary vocabulary;
    std::uint64_t count_error = 0;
};

CountedWords count_words(const PreprocessOptions& options, const std::vector<InputFile>& inputs, const Log& log) {
    BlockSource source(inputs);
    VocabularyBuilder builder;
    ProblemLog problems(options.on_error, &log);
    Progress progress("pass 1 of 2, counting words", bytes_of(inputs));
    ordered_map(
        options.workers, [&] { return source.next(); },
        [&](const Block& block) { return count_block(block, options.rules); },
        [&](const CountedBlock& counted) {
            for (const RecordProblem& problem : counted.problems) problems.add(counted.input->path, problem);
            builder.add(counted.words);
            progress.update(counted.bytes_done);
        });
    problems.finish();
    return {.vocabulary =
                builder.build(options.rules, options.vocabulary_size, static_cast<std::uint64_t>(options.min_count)),
            .count_error = builder.count_error()};
}

/// The second pass: shards of both splits, and what the manifest says about the inputs.
class ShardPass {
   public:
    ShardPass(const PreprocessOptions& options, const std::vector<InputFile>& inputs, const Vocabulary& vocabulary)
        : options_(options),
          inputs_(inputs),
          vocabulary_(vocabulary),
          train_(writer_options(Split::kTrain)),
          validation_(writer_options(Split::kValidation)) {
        for (const InputFile& input : inputs_) {
            manifest_.sources.push_back({.file = fs::path(input.path).filename().string(),
                                         .format = std::string(name_of(input.format)),
                                         .bytes = input.bytes,
                                         .conversations = 0,
                                         .skipped_records = 0});
        }
    }

    /// `problems`: who hears of records that cannot be read.
    Manifest run(ProblemLog& problems) {
        BlockSource source(inputs_);
        Progress progress("pass 2 of 2, writing shards", bytes_of(inputs_));
        const SplitRule rule{.validation_percent = options_.validation_percent, .seed = options_.seed};
        ordered_map(
            options_.workers, [&] { return source.next(); },
            [&](const Block& block) { return encode_block(block, vocabulary_, rule); },
            [&](const EncodedBlock& encoded) {
                for (const RecordProblem& problem : encoded.problems) problems.add(encoded.input->path, problem);
                write(encoded);
                progress.update(encoded.bytes_done);
            });
        manifest_.shards = train_.finish();
        for (ShardEntry& shard : validation_.finish()) manifest_.shards.push_back(std::move(shard));
        return manifest_;
    }

    [[nodiscard]] std::int64_t different_conversations() const { return std::ssize(contents_); }

    void commit() {
        train_.commit();
        validation_.commit();
    }

   private:
    /// So many different ones are never all on one side: of 1 % in fewer than one of 10^17 corpora.
    static constexpr std::size_t kCountedContents = 4096;

    [[nodiscard]] ShardWriterOptions writer_options(Split split) const {
        return {.folder = options_.output,
                .split = split,
                .vocabulary_hash = vocabulary_.hash(),
                .vocabulary_size = vocabulary_.size(),
                .shard_tokens = options_.shard_tokens};
    }

    void write(const EncodedBlock& encoded) {
        SourceEntry& source = manifest_.sources[static_cast<std::size_t>(encoded.input - inputs_.data())];
        source.conversations += static_cast<std::int64_t>(encoded.splits.size());
        source.skipped_records += static_cast<std::int64_t>(encoded.problems.size());
        manifest_.dropped_turns += encoded.dropped_turns;
        manifest_.dropped_conversations += encoded.dropped_conversations;
        const EncodedConversations& all = encoded.conversations;
        std::size_t turn = 0;
        std::size_t token = 0;
        for (std::size_t i = 0; i < encoded.splits.size(); ++i) {
            if (contents_.size() < kCountedContents) contents_.insert(encoded.contents[i]);
            const std::size_t turns = all.conversation_turns[i];
            const auto lengths = std::span(all.turn_lengths).subspan(turn, turns);
            const std::size_t tokens = std::accumulate(lengths.begin(), lengths.end(), std::size_t{0});
            const ConversationView view{.tokens = std::span(all.tokens).subspan(token, tokens),
                                        .turn_lengths = lengths,
                                        .speakers = std::span(all.speakers).subspan(turn, turns)};
            (encoded.splits[i] == Split::kTrain ? train_ : validation_).add(view, source.file);
            turn += turns;
            token += tokens;
        }
    }

    const PreprocessOptions& options_;
    const std::vector<InputFile>& inputs_;
    const Vocabulary& vocabulary_;
    ShardWriter train_;
    ShardWriter validation_;
    Manifest manifest_;
    std::set<std::uint64_t> contents_;
};

/// The same inputs must have been read twice.
void check_same_words(const Vocabulary& vocabulary, const Manifest& manifest) {
    const DataCounts train = manifest.counts(Split::kTrain);
    const DataCounts validation = manifest.counts(Split::kValidation);
    const auto written = static_cast<std::uint64_t>(train.tokens + validation.tokens);
    require(written == vocabulary.total_words(), ErrorCode::kInputOutput,
            "the first pass counted {} words and the second {}; the inputs changed meanwhile: try again",
            vocabulary.total_words(), written);
}

/// `different`: how many conversations there are when equal ones count once.
void warn_without_validation(const PreprocessOptions& options, const Manifest& manifest, std::int64_t different,
                             const Log& log) {
    if (options.validation_percent == 0 || manifest.counts(Split::kValidation).conversations > 0) return;
    const std::int64_t all = manifest.counts(Split::kTrain).conversations;
    const std::string equal =
        different < all ? fmt::format(", of which {} differ and equal ones stay together,", different) : "";
    log.warning(
        "the validation split is empty: {} % of {}{} happened to be none, and training will not be validated; give "
        "more different conversations, a larger --validation-percent or another --seed",
        options.validation_percent, count_text(all, "conversation"), equal);
}

}  // namespace

Manifest preprocess(const PreprocessOptions& options, const Log& log) {
    check_output(options.output);
    const std::vector<InputFile> inputs = inspect_inputs(options, log);
    OutputFolder folder(options.output);
    const bool counting = options.vocabulary.empty();
    const CountedWords words =
        counting ? count_words(options, inputs, log) : CountedWords{.vocabulary = Vocabulary::load(options.vocabulary)};
    // Problems are told once: in the first pass that there is.
    ProblemLog problems(options.on_error, counting ? nullptr : &log);
    ShardPass pass(options, inputs, words.vocabulary);
    Manifest manifest = pass.run(problems);
    problems.finish();
    if (counting) check_same_words(words.vocabulary, manifest);
    require(!manifest.shards.empty(), ErrorCode::kData, "the inputs hold no conversation; is --format right?");
    warn_without_validation(options, manifest, pass.different_conversations(), log);
    manifest.vocabulary_hash = words.vocabulary.hash();
    manifest.vocabulary_size = words.vocabulary.size();
    manifest.seed = options.seed;
    manifest.validation_percent = options.validation_percent;
    manifest.word_count_error = words.count_error;

    // Without a manifest the folder is no data; it goes first and comes last.
    fs::remove(fmt::format("{}/{}", options.output, kManifestFile));
    pass.commit();
    write_file_durably(fmt::format("{}/{}", options.output, kVocabularyFile), words.vocabulary.serialize());
    write_file_durably(fmt::format("{}/{}", options.output, kManifestFile), manifest.serialize());
    std::set<std::string> current;
    for (const ShardEntry& shard : manifest.shards) current.insert(shard.file);
    folder.remove_shards_but(current);
    folder.keep();
    return manifest;
}

}  // namespace duologue::preprocess
