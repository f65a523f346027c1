// Batches: every example once an epoch, the same for any number of ranks and from any position, within capacity.
#include "duologue/data/batches.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "duologue/core/error.h"
#include "duologue/core/hash.h"
#include "duologue/data/shards.h"
#include "duologue/data/vocabulary.h"
#include "support/sample_data.h"
#include "support/temporary_folder.h"

namespace duologue {
namespace {

using ::testing::ElementsAre;

std::span<const std::int32_t> sequence(const PackedTokens& packed, std::int64_t i) {
    const auto begin = static_cast<std::size_t>(packed.offsets[static_cast<std::size_t>(i)]);
    const auto end = static_cast<std::size_t>(packed.offsets[static_cast<std::size_t>(i) + 1]);
    return std::span(packed.tokens).subspan(begin, end - begin);
}

std::uint64_t hash_of(std::span<const std::int32_t> words, std::uint64_t hash) {
    return fnv1a({reinterpret_cast<const char*>(words.data()), words.size_bytes()}, fnv1a("|", hash));
}

using Hashes = std::multiset<std::uint64_t>;

/// One hash for each example of a batch, over source, target and labels.
void add_hashes(const Batch& batch, Hashes& hashes) {
    for (std::int64_t i = 0; i < batch.target.sequences(); ++i) {
        std::uint64_t hash = fnv1a("example");
        if (batch.source.sequences() > 0) hash = hash_of(sequence(batch.source, i), hash);
        hash = hash_of(sequence(batch.target, i), hash);
        const auto begin = static_cast<std::size_t>(batch.target.offsets[static_cast<std::size_t>(i)]);
        hashes.insert(hash_of(std::span(batch.labels).subspan(begin, sequence(batch.target, i).size()), hash));
    }
}

bool same(const PackedTokens& a, const PackedTokens& b) {
    return a.tokens == b.tokens && a.positions == b.positions && a.offsets == b.offsets;
}
bool same(const Batch& a, const Batch& b) {
    return same(a.source, b.source) && same(a.target, b.target) && a.labels == b.labels &&
           a.label_count == b.label_count;
}

class Batches : public ::testing::Test {
   protected:
    static constexpr int kConversations = 400;
    static constexpr std::int64_t kMicroBatches = 4;

    Batches() { manifest_ = preprocess_sample(sample_json_lines(kConversations), config_.path); }

    [[nodiscard]] std::unique_ptr<TrainingData> open(ModelKind kind = ModelKind::kEncoderDecoder,
                                                     std::uint64_t seed = 1) const {
        return open_training_data(config_, kind, seed);
    }
    /// The examples that the ranks together train on in `epoch`.
    [[nodiscard]] Hashes epoch_hashes(ModelKind kind, int ranks, std::int64_t epoch) const {
        Hashes hashes;
        for (int rank = 0; rank < ranks; ++rank) {
            const auto data = open(kind);
            DataPosition position{.epoch = epoch, .examples = 0};
            for (bool ended = false; !ended;) {
                const GlobalStep step = data->step(position, kMicroBatches, rank, ranks);
                for (const Batch& batch : step.micro_batches) add_hashes(batch, hashes);
                ended = step.ends_epoch;
                position = step.next;
            }
        }
        return hashes;
    }
    /// Every example of the training split, taken from the shards directly.
    [[nodiscard]] Hashes all_replies() const;

    TemporaryFolder folder_;
    DataConfig config_{.path = folder_ / "data",
                       .max_context_tokens = 48,
                       .max_reply_tokens = 12,
                       .micro_batch_tokens = 256,
                       .micro_batch_reply_tokens = 0,
                       .window_shards = 3};
    Manifest manifest_;
};

Hashes Batches::all_replies() const {
    Hashes hashes;
    for (const ShardEntry& entry : manifest_.shards_of(Split::kTrain)) {
        const Shard shard = Shard::load(config_.path, manifest_, entry);
        for (std::int64_t c = 0; c < shard.conversations(); ++c) {
            for (std::int64_t turn = shard.first_turn(c) + 1; turn < shard.first_turn(c + 1); ++turn) {
                std::vector<std::int32_t> source;
                for (std::int64_t back = turn - 1; back >= shard.first_turn(c); --back) {
                    const TurnTokens words = shard.turn(back);
                    if (std::ssize(source) + std::ssize(words) + 1 > config_.max_context_tokens) break;
                    source.insert(source.begin(), Vocabulary::kEnd);
                    source.insert(source.begin(), words.begin(), words.end());
                }
                std::vector<std::int32_t> labels(shard.turn(turn).begin(), shard.turn(turn).end());
                labels.push_back(Vocabulary::kEnd);
                std::vector<std::int32_t> target{Vocabulary::kStart};
                target.insert(target.end(), labels.begin(), labels.end() - 1);
                const auto rows = std::min(labels.size(), static_cast<std::size_t>(config_.max_reply_tokens));
                target.resize(rows);
                labels.resize(rows);
                hashes.insert(hash_of(labels, hash_of(target, hash_of(source, fnv1a("example")))));
            }
        }
    }
    return hashes;
}

TEST_F(Batches, RanksTogetherTrainOnEveryExampleExactlyOnce) {
    ASSERT_GT(manifest_.shards_of(Split::kTrain).size(), 6U);
    const Hashes expected = all_replies();
    EXPECT_EQ(open()->examples_per_epoch(), std::ssize(expected));
    for (const int ranks : {1, 2, 4}) {
        EXPECT_EQ(epoch_hashes(ModelKind::kEncoderDecoder, ranks, 0), expected) << ranks << " ranks";
    }
    EXPECT_EQ(epoch_hashes(ModelKind::kEncoderDecoder, 1, 7), expected);
}

TEST_F(Batches, StreamsHoldEveryTokenOnceWhateverTheRanks) {
    const Hashes expected = epoch_hashes(ModelKind::kDecoderOnly, 1, 0);
    EXPECT_EQ(std::ssize(expected), open(ModelKind::kDecoderOnly)->examples_per_epoch());
    for (const int ranks : {2, 4}) EXPECT_EQ(epoch_hashes(ModelKind::kDecoderOnly, ranks, 0), expected);
    const auto data = open(ModelKind::kDecoderOnly);
    std::int64_t counted = 0;
    for (DataPosition position; position.epoch == 0;) {
        const GlobalStep step = data->step(position, kMicroBatches, 0, 1);
        for (const Batch& batch : step.micro_batches) {
            EXPECT_EQ(batch.source.rows(), 0);
            EXPECT_EQ(batch.label_count, std::ranges::count_if(batch.labels, [](auto label) { return label >= 0; }));
            EXPECT_EQ(std::ranges::count(batch.labels, Vocabulary::kStart), 0);
            counted += batch.label_count;
        }
        position = step.next;
    }
    const DataCounts counts = manifest_.counts(Split::kTrain);
    EXPECT_EQ(counted, counts.tokens + counts.turns);  // words and <eos>; no turn here is cut
}

TEST_F(Batches, AMicroBatchIsTheSameOnEveryNumberOfRanks) {
    const auto alone = open();
    const auto shared = open();
    DataPosition position;
    for (int i = 0; i < 30; ++i) {
        const GlobalStep whole = alone->step(position, kMicroBatches, 0, 1);
        for (int rank = 0; rank < 3; ++rank) {
            const GlobalStep part = shared->step(position, kMicroBatches, rank, 3);
            EXPECT_EQ(part.next, whole.next);
            ASSERT_EQ(part.micro_batches.size(), whole.micro_batches.size());
            for (std::size_t j = 0; j < whole.micro_batches.size(); ++j) {
                const bool mine = j % 3 == static_cast<std::size_t>(rank);
                EXPECT_TRUE(same(part.micro_batches[j], mine ? whole.micro_batches[j] : Batch{}));
            }
        }
        position = whole.next;
    }
}

TEST_F(Batches, AnyPositionCanBeResumedInAnyOrder) {
    const auto data = open();
    std::vector<std::pair<DataPosition, GlobalStep>> steps;
    for (DataPosition position; position.epoch < 2;) {
        steps.emplace_back(position, data->step(position, kMicroBatches, 0, 1));
        position = steps.back().second.next;
    }
    const auto fresh = open();
    for (std::size_t i = steps.size(); i-- > 0;) {
        const GlobalStep again = fresh->step(steps[i].first, kMicroBatches, 0, 1);
        ASSERT_EQ(again.next, steps[i].second.next);
        for (std::size_t j = 0; j < again.micro_batches.size(); ++j) {
            EXPECT_TRUE(same(again.micro_batches[j], steps[i].second.micro_batches[j]));
        }
    }
    EXPECT_THROW((void)fresh->step({.epoch = 0, .examples = fresh->examples_per_epoch()}, 1, 0, 1), Error);
}

TEST_F(Batches, EpochsAndSeedsHaveOrdersOfTheirOwn) {
    const auto first = [](TrainingData& data, std::int64_t epoch) {
        return data.step({.epoch = epoch, .examples = 0}, 1, 0, 1).micro_batches.at(0).source.tokens;
    };
    const auto data = open();
    const auto other = open(ModelKind::kEncoderDecoder, 2);
    EXPECT_NE(first(*data, 0), first(*data, 1));
    EXPECT_NE(first(*data, 0), first(*other, 0));
}

TEST_F(Batches, MicroBatchesStayWithinCapacityAndAreWellFilled) {
    config_.micro_batch_tokens = 1024;
    config_.micro_batch_reply_tokens = 512;
    const BatchCapacity capacity = batch_capacity(config_, ModelKind::kEncoderDecoder);
    const auto data = open();
    std::int64_t batches = 0;
    double rows = 0;
    for (DataPosition position; position.epoch == 0;) {
        const GlobalStep step = data->step(position, kMicroBatches, 0, 1);
        for (const Batch& batch : step.micro_batches) {
            EXPECT_LE(batch.source.rows(), capacity.source_rows);
            EXPECT_LE(batch.target.rows(), capacity.target_rows);
            EXPECT_LE(batch.target.sequences(), capacity.sequences);
            EXPECT_EQ(batch.source.sequences(), batch.target.sequences());
            EXPECT_EQ(batch.labels.size(), batch.target.tokens.size());
            for (std::int64_t i = 0; i < batch.source.sequences(); ++i) {
                EXPECT_LE(std::ssize(sequence(batch.source, i)), capacity.max_source_length);
                EXPECT_LE(std::ssize(sequence(batch.target, i)), capacity.max_target_length);
            }
            ++batches;
            rows += static_cast<double>(batch.source.rows());
        }
        position = step.next;
    }
    // Half an example of up to 48 rows is left over in the mean, and the last step of the epoch ends early.
    EXPECT_GT(rows / static_cast<double>(batches * capacity.source_rows), 0.95);
}

TEST_F(Batches, ValidationIsTheWholeSplitInAFixedOrder) {
    const std::vector<Batch> batches = load_validation_batches(config_, ModelKind::kEncoderDecoder);
    std::int64_t examples = 0;
    for (const Batch& batch : batches) examples += batch.target.sequences();
    const DataCounts counts = manifest_.counts(Split::kValidation);
    EXPECT_GT(counts.conversations, 20);
    EXPECT_EQ(examples, counts.turns - counts.conversations);
    const std::vector<Batch> again = load_validation_batches(config_, ModelKind::kEncoderDecoder);
    EXPECT_TRUE(std::ranges::equal(batches, again, [](const Batch& a, const Batch& b) { return same(a, b); }));
}

TEST(BatchFormat, RepliesAndStreamsReadAsDesigned) {
    const TemporaryFolder folder;
    // The vocabulary is a=4 b=5 c=6 d=7 by frequency.
    const std::string line = "{\"turns\": [\"a a a a\", \"b b b\", \"c c\", \"d\"]}\n";
    const Manifest manifest = preprocess_sample(line, folder / "data");
    const DataConfig config{.path = folder / "data",
                            .max_context_tokens = 8,
                            .max_reply_tokens = 3,
                            .micro_batch_tokens = 64,
                            .micro_batch_reply_tokens = 64,
                            .window_shards = 1};
    const bool trained = !manifest.shards_of(Split::kTrain).empty();
    ASSERT_TRUE(trained);
    const auto replies = open_training_data(config, ModelKind::kEncoderDecoder, 1);
    std::map<std::int32_t, std::vector<std::int32_t>> sources;  // by the first label
    std::map<std::int32_t, std::vector<std::int32_t>> targets;
    std::map<std::int32_t, std::vector<std::int32_t>> labels;
    const GlobalStep step = replies->step({}, 1, 0, 1);
    const Batch& batch = step.micro_batches.at(0);
    ASSERT_EQ(batch.target.sequences(), 3);
    for (std::int64_t i = 0; i < 3; ++i) {
        const auto begin = static_cast<std::size_t>(batch.target.offsets[static_cast<std::size_t>(i)]);
        const std::int32_t label = batch.labels[begin];
        const auto target = sequence(batch.target, i);
        const auto source = sequence(batch.source, i);
        const auto its_labels = std::span(batch.labels).subspan(begin, target.size());
        sources[label].assign(source.begin(), source.end());
        targets[label].assign(target.begin(), target.end());
        labels[label].assign(its_labels.begin(), its_labels.end());
    }
    EXPECT_THAT(sources[5], ElementsAre(4, 4, 4, 4, 2));
    EXPECT_THAT(targets[5], ElementsAre(1, 5, 5));
    EXPECT_THAT(labels[5], ElementsAre(5, 5, 5));
    EXPECT_THAT(sources[6], ElementsAre(5, 5, 5, 2));  // both turns together would take 9 rows
    EXPECT_THAT(targets[6], ElementsAre(1, 6, 6));
    EXPECT_THAT(labels[6], ElementsAre(6, 6, 2));
    EXPECT_THAT(sources[7], ElementsAre(5, 5, 5, 2, 6, 6, 2));
    EXPECT_THAT(targets[7], ElementsAre(1, 7));
    EXPECT_THAT(labels[7], ElementsAre(7, 2));
    EXPECT_EQ(batch.label_count, 8);

    const auto streams = open_training_data(config, ModelKind::kDecoderOnly, 1);
    ASSERT_EQ(streams->examples_per_epoch(), 3);  // a | b c | d: each with <sos> and <eos>, at most 8 rows
    const GlobalStep all = streams->step({}, 1, 0, 1);
    const PackedTokens& packed = all.micro_batches.at(0).target;
    std::multiset<std::vector<std::int32_t>> found;
    for (std::int64_t i = 0; i < 3; ++i) found.emplace(sequence(packed, i).begin(), sequence(packed, i).end());
    EXPECT_THAT(found, ::testing::UnorderedElementsAre(ElementsAre(1, 4, 4, 4, 4), ElementsAre(1, 5, 5, 5, 2, 1, 6, 6),
                                                       ElementsAre(1, 7)));
    EXPECT_THAT(all.micro_batches.at(0).labels, ::testing::Contains(-1).Times(1));
}

TEST(BatchCapacity, IsCheckedAgainstTheLengths) {
    const DataConfig config;
    const BatchCapacity capacity = batch_capacity(config, ModelKind::kEncoderDecoder);
    EXPECT_EQ(capacity.source_rows, 4096);
    EXPECT_EQ(capacity.target_rows, 1280);
    EXPECT_EQ(capacity.sequences, 320);
    EXPECT_EQ(batch_capacity(config, ModelKind::kDecoderOnly).max_target_length, 128);
    DataConfig small = config;
    small.micro_batch_tokens = 100;
    EXPECT_THROW((void)batch_capacity(small, ModelKind::kEncoderDecoder), Error);
    small = config;
    small.micro_batch_reply_tokens = 39;
    EXPECT_THROW((void)batch_capacity(small, ModelKind::kEncoderDecoder), Error);
}

}  // namespace
}  // namespace duologue
