// The order of an epoch, the window of shards in memory, and micro-batches filled along that order.
#include "duologue/data/batches.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <utility>

#include "data/examples.h"
#include "duologue/core/error.h"
#include "duologue/core/random.h"
#include "duologue/core/rounding.h"
#include "duologue/data/shards.h"

namespace duologue {

namespace {

// Keeps the random numbers of the two permutations apart from each other and from all other uses of the seed.
constexpr std::uint64_t kShardOrderKey = 0x5368617264730001ULL;
constexpr std::uint64_t kExampleOrderKey = 0x4578616d706c6502ULL;

/// Fisher and Yates, from the end.
template <class T>
void shuffle(std::vector<T>& values, RandomStream random) {
    for (std::size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[random.below(i)]);
}

/// The manifest of a folder, held against the vocabulary that lies beside it.
Manifest load_checked_manifest(const std::string& folder) {
    Manifest manifest = Manifest::load(folder);
    (void)load_vocabulary_of(folder, manifest);
    return manifest;
}

void require_at_least(std::string_view key, std::int64_t value, std::int64_t least, std::string_view reason) {
    require(value >= least, ErrorCode::kConfiguration, "{} is {}; it must be at least {} {}", key, value, least,
            reason);
}

class ShardedTrainingData : public TrainingData {
   public:
    ShardedTrainingData(const DataConfig& config, ModelKind kind, std::uint64_t seed)
        : config_(config),
          kind_(kind),
          seed_(seed),
          format_(config, kind),
          capacity_(batch_capacity(config, kind)),
          manifest_(load_checked_manifest(config.path)),
          entries_(manifest_.shards_of(Split::kTrain)) {
        require_at_least("data.window_shards", config.window_shards, 1, "shard");
        for (const ShardEntry& entry : entries_) Shard::check(config_.path, manifest_, entry);
        count_examples();
        require(examples_per_epoch() > 0, ErrorCode::kData,
                "'{}' holds no training example: no conversation of its training split has two turns", config.path);
    }

    GlobalStep step(const DataPosition& position, std::int64_t micro_batches, int rank, int ranks) override {
        require(position.epoch >= 0 && position.examples >= 0 && position.examples < examples_per_epoch(),
                ErrorCode::kData, "epoch {}, example {} is no position in data of {} examples; does it belong to '{}'?",
                position.epoch, position.examples, examples_per_epoch(), config_.path);
        GlobalStep result;
        DataPosition at = position;
        for (std::int64_t j = 0; j < micro_batches && at.examples < examples_per_epoch(); ++j) {
            Batch& batch = result.micro_batches.emplace_back();
            fill(at, j % ranks == rank ? &batch : nullptr);
        }
        result.ends_epoch = at.examples == examples_per_epoch();
        result.next = result.ends_epoch ? DataPosition{.epoch = at.epoch + 1, .examples = 0} : at;
        return result;
    }

    [[nodiscard]] std::int64_t examples_per_epoch() const override {
        return std::accumulate(examples_.begin(), examples_.end(), std::int64_t{0});
    }

   private:
    /// The shards whose examples are shuffled together, and where they stand in the epoch's order.
    struct Window {
        std::int64_t epoch = -1;
        std::int64_t begin = 0;
        std::vector<Example> examples;
        [[nodiscard]] bool holds(const DataPosition& at) const {
            return at.epoch == epoch && at.examples >= begin && at.examples < begin + std::ssize(examples);
        }
    };

    void count_examples() {
        for (std::size_t i = 0; i < entries_.size(); ++i) {
            if (kind_ == ModelKind::kEncoderDecoder) {
                examples_.push_back(entries_[i].counts.turns - entries_[i].counts.conversations);
                continue;
            }
            std::vector<Example> streams;
            format_.enumerate(Shard::load(config_.path, manifest_, entries_[i]), static_cast<std::uint32_t>(i),
                              streams);
            examples_.push_back(std::ssize(streams));
        }
    }

    [[nodiscard]] std::vector<std::uint32_t> shard_order(std::int64_t epoch) const {
        std::vector<std::uint32_t> order(entries_.size());
        std::iota(order.begin(), order.end(), 0U);
        const std::uint64_t key = mix_key(mix_key(seed_, kShardOrderKey), static_cast<std::uint64_t>(epoch));
        shuffle(order, RandomStream(key));
        return order;
    }

    /// Makes `window_` the one that holds position `at`.
    void move_window(const DataPosition& at) {
        const std::vector<std::uint32_t> order = shard_order(at.epoch);
        const auto width = static_cast<std::size_t>(config_.window_shards);
        std::int64_t begin = 0;
        for (std::size_t first = 0; first < order.size(); first += width) {
            const auto shards = std::span(order).subspan(first, std::min(width, order.size() - first));
            std::int64_t count = 0;
            for (const std::uint32_t shard : shards) count += examples_[shard];
            if (at.examples < begin + count) return load_window(at.epoch, begin, shards);
            begin += count;
        }
        fail(ErrorCode::kInternal, "no window of epoch {} holds example {}", at.epoch, at.examples);
    }

    void load_window(std::int64_t epoch, std::int64_t begin, std::span<const std::uint32_t> shards) {
        std::erase_if(shards_, [&](const auto& loaded) {
            return std::find(shards.begin(), shards.end(), loaded.first) == shards.end();
        });
        window_ = {.epoch = epoch, .begin = begin, .examples = {}};
        for (const std::uint32_t shard : shards) {
            auto loaded = shards_.find(shard);
            if (loaded == shards_.end()) {
                loaded = shards_.emplace(shard, Shard::load(config_.path, manifest_, entries_[shard])).first;
            }
            format_.enumerate(loaded->second, shard, window_.examples);
        }
        const std::uint64_t key = mix_key(mix_key(seed_, kExampleOrderKey), static_cast<std::uint64_t>(epoch));
        shuffle(window_.examples, RandomStream(mix_key(key, static_cast<std::uint64_t>(begin))));
    }

    /// One micro-batch from `at` on, which is moved behind it; written out only where there is a `batch`.
    void fill(DataPosition& at, Batch* batch) {
        BatchFiller filler(capacity_);
        for (; at.examples < examples_per_epoch(); ++at.examples) {
            if (!window_.holds(at)) move_window(at);
            const Example& example = window_.examples[static_cast<std::size_t>(at.examples - window_.begin)];
            const Shard& shard = shards_.at(example.shard);
            if (!filler.take(format_.rows(shard, example))) return;
            if (batch != nullptr) format_.append(shard, example, *batch);
        }
    }

    DataConfig config_;
    ModelKind kind_;
    std::uint64_t seed_;
    ExampleFormat format_;
    BatchCapacity capacity_;
    Manifest manifest_;
    std::vector<ShardEntry> entries_;     // of the training split
    std::vector<std::int64_t> examples_;  // of each of those
    std::map<std::uint32_t, Shard> shards_;
    Window window_;
};

}  // namespace

BatchCapacity batch_capacity(const DataConfig& config, ModelKind kind) {
    require_at_least("data.max_context_tokens", config.max_context_tokens, 2, "(a word and <eos>)");
    require_at_least("data.max_reply_tokens", config.max_reply_tokens, 2, "(a word and <eos>)");
    require_at_least("data.micro_batch_tokens", config.micro_batch_tokens, config.max_context_tokens,
                     "(data.max_context_tokens)");
    if (kind == ModelKind::kDecoderOnly) {
        return {.source_rows = 0,
                .target_rows = config.micro_batch_tokens,
                .sequences = std::max<std::int64_t>(config.micro_batch_tokens / 4, 1),
                .max_source_length = 0,
                .max_target_length = config.max_context_tokens};
    }
    std::int64_t target_rows = config.micro_batch_reply_tokens;
    if (target_rows == 0) {
        constexpr std::int64_t kRounding = 64;
        const std::int64_t share = config.micro_batch_tokens * config.max_reply_tokens / config.max_context_tokens;
        const std::int64_t rounded = rounded_up(share, kRounding);
        target_rows = std::max(config.max_reply_tokens, std::min(rounded, config.micro_batch_tokens));
    }
    require_at_least("data.micro_batch_reply_tokens", target_rows, config.max_reply_tokens, "(data.max_reply_tokens)");
    return {.source_rows = config.micro_batch_tokens,
            .target_rows = target_rows,
            .sequences = std::max<std::int64_t>(target_rows / 4, 1),
            .max_source_length = config.max_context_tokens,
            .max_target_length = config.max_reply_tokens};
}

std::unique_ptr<TrainingData> open_training_data(const DataConfig& config, ModelKind kind, std::uint64_t seed) {
    return std::make_unique<ShardedTrainingData>(config, kind, seed);
}

std::vector<Batch> load_validation_batches(const DataConfig& config, ModelKind kind) {
    const Manifest manifest = load_checked_manifest(config.path);
    const ExampleFormat format(config, kind);
    const BatchCapacity capacity = batch_capacity(config, kind);
    std::vector<Batch> batches;
    BatchFiller filler(capacity);
    for (const ShardEntry& entry : manifest.shards_of(Split::kValidation)) {
        const Shard shard = Shard::load(config.path, manifest, entry);
        std::vector<Example> examples;
        format.enumerate(shard, 0, examples);
        for (const Example& example : examples) {
            const ExampleRows rows = format.rows(shard, example);
            if (batches.empty() || !filler.take(rows)) {
                batches.emplace_back();
                filler = BatchFiller(capacity);
                require(filler.take(rows), ErrorCode::kInternal, "an example of {} and {} rows fits no micro-batch",
                        rows.source, rows.target);
            }
            format.append(shard, example, batches.back());
        }
    }
    return batches;
}

}  // namespace duologue
