// The work that both passes do on one block; pure functions, so that any thread may do it.
#include "encoder.h"

#include <optional>

#include "duologue/core/hash.h"
#include "duologue/core/random.h"
#include "duologue/data/tokenizer.h"

namespace duologue::preprocess {

namespace {

/// Calls `conversation` for every record that can be read, and collects the problems of the others.
template <class Action>
std::vector<RecordProblem> for_each_conversation(const Block& block, Action action) {
    std::vector<RecordProblem> problems;
    Conversation conversation;
    for (const RawRecord& record : block.records) {
        if (std::optional<RecordProblem> problem = parse_record(block.input->format, record, conversation)) {
            problems.push_back(std::move(*problem));
        } else {
            action(conversation);
        }
    }
    return problems;
}

/// Appends one conversation at a time to an EncodedBlock.
class BlockEncoder {
   public:
    BlockEncoder(const Vocabulary& vocabulary, const SplitRule& rule, EncodedBlock& out)
        : vocabulary_(vocabulary), rule_(rule), out_(out), conversations_(out.conversations) {}

    void add(const Conversation& conversation) {
        hash_ = fnv1a({});
        turns_ = 0;
        last_speaker_ = Conversation::kUnknownSpeaker;
        for (std::size_t i = 0; i < conversation.turns(); ++i) {
            add_turn(conversation.turn(i), conversation.speaker(i));
        }
        if (turns_ == 0) {
            ++out_.dropped_conversations;
            return;
        }
        conversations_.conversation_turns.push_back(turns_);
        out_.contents.push_back(hash_);
        const auto draw = static_cast<std::int64_t>(mix_key(hash_, rule_.seed) % 100);
        out_.splits.push_back(draw < rule_.validation_percent ? Split::kValidation : Split::kTrain);
    }

   private:
    void add_turn(std::string_view text, int speaker) {
        const std::size_t before = conversations_.tokens.size();
        for_each_word(text, vocabulary_.rules(), [&](std::string_view word) {
            conversations_.tokens.push_back(static_cast<std::uint32_t>(vocabulary_.id(word)));
            hash_ = fnv1a(" ", fnv1a(word, hash_));
        });
        const auto length = static_cast<std::uint32_t>(conversations_.tokens.size() - before);
        if (length == 0) {
            ++out_.dropped_turns;
            return;
        }
        const bool known = speaker != Conversation::kUnknownSpeaker;
        if (known && turns_ > 0 && speaker == last_speaker_) {
            conversations_.turn_lengths.back() += length;
            return;
        }
        hash_ = fnv1a("\n", hash_);
        // Where nobody says who speaks, two parties are taken to alternate.
        conversations_.speakers.push_back(static_cast<std::uint8_t>(known ? speaker : static_cast<int>(turns_ % 2)));
        conversations_.turn_lengths.push_back(length);
        last_speaker_ = speaker;
        ++turns_;
    }

    const Vocabulary& vocabulary_;
    SplitRule rule_;
    EncodedBlock& out_;
    EncodedConversations& conversations_;
    std::uint64_t hash_ = 0;
    std::uint32_t turns_ = 0;
    int last_speaker_ = Conversation::kUnknownSpeaker;
};

}  // namespace

CountedBlock count_block(const Block& block, const WordRules& rules) {
    CountedBlock counted{.input = block.input, .bytes_done = block.bytes_done, .words = {}, .problems = {}};
    counted.problems = for_each_conversation(block, [&](const Conversation& conversation) {
        for (std::size_t i = 0; i < conversation.turns(); ++i) {
            // Records are known to be valid UTF-8 here.
            for_each_word(conversation.turn(i), rules, [&](std::string_view word) { counted.words.add(word); });
        }
    });
    return counted;
}

EncodedBlock encode_block(const Block& block, const Vocabulary& vocabulary, const SplitRule& rule) {
    EncodedBlock encoded;
    encoded.input = block.input;
    encoded.bytes_done = block.bytes_done;
    BlockEncoder encoder(vocabulary, rule, encoded);
    encoded.problems =
        for_each_conversation(block, [&](const Conversation& conversation) { encoder.add(conversation); });
    return encoded;
}

}  // namespace duologue::preprocess
