// Replies with their context, and streams of turns, as packed rows.
#include "data/examples.h"

#include <algorithm>
#include <span>

#include "duologue/core/error.h"
#include "duologue/data/vocabulary.h"

namespace duologue {

namespace {

constexpr std::int32_t kNotCounted = -1;

/// Closes a sequence whose tokens were just appended: offsets and positions.
void close_sequence(PackedTokens& packed) {
    const std::int32_t begin = packed.offsets.back();
    const auto end = static_cast<std::int32_t>(packed.tokens.size());
    for (std::int32_t row = begin; row < end; ++row) packed.positions.push_back(row - begin);
    packed.offsets.push_back(end);
}

void append_words(std::vector<std::int32_t>& out, TurnTokens words) {
    out.insert(out.end(), words.begin(), words.end());
}

}  // namespace

void ExampleFormat::enumerate(const Shard& shard, std::uint32_t shard_index, std::vector<Example>& examples) const {
    if (kind_ == ModelKind::kEncoderDecoder) {
        enumerate_replies(shard, shard_index, examples);
    } else {
        enumerate_streams(shard, shard_index, examples);
    }
}

void ExampleFormat::enumerate_replies(const Shard& shard, std::uint32_t shard_index,
                                      std::vector<Example>& examples) const {
    for (std::int64_t conversation = 0; conversation < shard.conversations(); ++conversation) {
        const auto begin = static_cast<std::uint32_t>(shard.first_turn(conversation));
        const auto end = static_cast<std::uint32_t>(shard.first_turn(conversation + 1));
        for (std::uint32_t turn = begin + 1; turn < end; ++turn) examples.push_back({shard_index, begin, turn});
    }
}

void ExampleFormat::enumerate_streams(const Shard& shard, std::uint32_t shard_index,
                                      std::vector<Example>& examples) const {
    for (std::int64_t conversation = 0; conversation < shard.conversations(); ++conversation) {
        const auto end = static_cast<std::uint32_t>(shard.first_turn(conversation + 1));
        auto begin = static_cast<std::uint32_t>(shard.first_turn(conversation));
        std::int64_t tokens = 0;
        for (std::uint32_t turn = begin; turn < end; ++turn) {
            const std::int64_t added = shard.turn_length(turn) + 2;
            // The last token of a stream is only a label, so one more than the context's rows fits.
            if (turn > begin && tokens + added > config_.max_context_tokens + 1) {
                examples.push_back({shard_index, begin, turn});
                begin = turn;
                tokens = 0;
            }
            tokens += added;
        }
        if (begin < end) examples.push_back({shard_index, begin, end});
    }
}

std::vector<TurnTokens> ExampleFormat::latest_turns(const Shard& shard, const Example& example) const {
    // A turn with its <eos> takes two rows at least, so earlier turns than these cannot fit.
    const std::int64_t most = config_.max_context_tokens / 2 + 1;
    const std::int64_t first = std::max<std::int64_t>(example.begin, std::int64_t{example.end} - most);
    std::vector<TurnTokens> turns;
    for (std::int64_t turn = first; turn < example.end; ++turn) turns.push_back(shard.turn(turn));
    return turns;
}

ExampleRows ExampleFormat::rows(const Shard& shard, const Example& example) const {
    if (kind_ == ModelKind::kDecoderOnly) {
        std::int64_t tokens = 0;
        for (std::int64_t turn = example.begin; turn < example.end; ++turn) tokens += shard.turn_length(turn) + 2;
        return {.source = 0, .target = std::min(tokens - 1, config_.max_context_tokens)};
    }
    const std::vector<TurnTokens> turns = latest_turns(shard, example);
    std::int64_t source = 0;
    for (const TurnTokens turn : std::span(turns).last(context_turns(turns, config_.max_context_tokens))) {
        source += std::ssize(turn) + 1;
    }
    return {.source = std::min(source, config_.max_context_tokens),
            .target = std::min(shard.turn_length(example.end) + 1, config_.max_reply_tokens)};
}

void ExampleFormat::append(const Shard& shard, const Example& example, Batch& batch) const {
    if (kind_ == ModelKind::kEncoderDecoder) {
        append_reply(shard, example, batch);
    } else {
        append_stream(shard, example, batch);
    }
}

void ExampleFormat::append_reply(const Shard& shard, const Example& example, Batch& batch) const {
    append_context(batch.source.tokens, latest_turns(shard, example), config_.max_context_tokens);
    close_sequence(batch.source);
    const TurnTokens reply = shard.turn(example.end);
    const auto most = static_cast<std::size_t>(config_.max_reply_tokens);
    batch.target.tokens.push_back(Vocabulary::kStart);
    append_words(batch.target.tokens, reply.first(std::min(reply.size(), most - 1)));
    close_sequence(batch.target);
    append_words(batch.labels, reply.first(std::min(reply.size(), most)));
    if (reply.size() < most) batch.labels.push_back(Vocabulary::kEnd);
    batch.label_count = std::ssize(batch.labels);
}

void ExampleFormat::append_stream(const Shard& shard, const Example& example, Batch& batch) const {
    std::vector<std::int32_t> stream;
    for (std::int64_t turn = example.begin; turn < example.end; ++turn) {
        stream.push_back(Vocabulary::kStart);
        append_words(stream, shard.turn(turn));
        stream.push_back(Vocabulary::kEnd);
    }
    stream.resize(std::min(stream.size(), static_cast<std::size_t>(config_.max_context_tokens + 1)));
    append_words(batch.target.tokens, std::span(stream).first(stream.size() - 1));
    close_sequence(batch.target);
    for (const std::int32_t token : std::span(stream).subspan(1)) {
        const bool counts = token != Vocabulary::kStart;
        batch.labels.push_back(counts ? token : kNotCounted);
        batch.label_count += counts ? 1 : 0;
    }
}

bool BatchFiller::take(const ExampleRows& rows) {
    const bool fits = used_.source + rows.source <= capacity_.source_rows &&
                      used_.target + rows.target <= capacity_.target_rows && sequences_ < capacity_.sequences;
    if (!fits) return false;
    used_.source += rows.source;
    used_.target += rows.target;
    ++sequences_;
    return true;
}

}  // namespace duologue
