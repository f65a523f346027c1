// Examples: what of a conversation becomes one training example, how many rows it takes, and how it is written out.
#pragma once

#include <cstdint>
#include <vector>

#include "duologue/data/batches.h"
#include "duologue/data/shards.h"

namespace duologue {

/// Encoder-decoder: turn `end` is said after turns [begin, end) of its conversation. Decoder-only: the stream of turns
/// [begin, end). Turns are counted inside the shard; `shard` is its index in the manifest's list of the split.
struct Example {
    std::uint32_t shard = 0;
    std::uint32_t begin = 0;
    std::uint32_t end = 0;
};

struct ExampleRows {
    std::int64_t source = 0;
    std::int64_t target = 0;
};

/// Turns conversations into examples and examples into rows of a batch, as DataConfig and the kind of model ask.
class ExampleFormat {
   public:
    ExampleFormat(const DataConfig& config, ModelKind kind) : config_(config), kind_(kind) {}

    /// Appends all examples of a shard, in the order of its turns.
    void enumerate(const Shard& shard, std::uint32_t shard_index, std::vector<Example>& examples) const;
    [[nodiscard]] ExampleRows rows(const Shard& shard, const Example& example) const;
    /// Appends exactly rows() rows to `batch`.
    void append(const Shard& shard, const Example& example, Batch& batch) const;

   private:
    void enumerate_replies(const Shard& shard, std::uint32_t shard_index, std::vector<Example>& examples) const;
    void enumerate_streams(const Shard& shard, std::uint32_t shard_index, std::vector<Example>& examples) const;
    [[nodiscard]] std::vector<TurnTokens> latest_turns(const Shard& shard, const Example& example) const;
    void append_reply(const Shard& shard, const Example& example, Batch& batch) const;
    void append_stream(const Shard& shard, const Example& example, Batch& batch) const;

    DataConfig config_;
    ModelKind kind_;
};

/// Fills one micro-batch: examples are taken in order until one does not fit.
class BatchFiller {
   public:
    explicit BatchFiller(const BatchCapacity& capacity) : capacity_(capacity) {}
    /// Takes the rows if they fit beside those taken before; false and unchanged otherwise.
    [[nodiscard]] bool take(const ExampleRows& rows);

   private:
    BatchCapacity capacity_;
    ExampleRows used_;
    std::int64_t sequences_ = 0;
};

}  // namespace duologue
