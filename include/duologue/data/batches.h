// Batches: which examples a global step trains on, as sequences packed end to end; a pure function of data, seed and
// step.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "duologue/config/config.h"

namespace duologue {

/// Sequences end to end, never padded.
struct PackedTokens {
    std::vector<std::int32_t> tokens;      ///< [N]
    std::vector<std::int32_t> positions;   ///< [N], 0-based inside the sequence
    std::vector<std::int32_t> offsets{0};  ///< [S+1]

    [[nodiscard]] std::int64_t rows() const { return static_cast<std::int64_t>(tokens.size()); }
    [[nodiscard]] std::int64_t sequences() const { return static_cast<std::int64_t>(offsets.size()) - 1; }
};

/// One micro-batch. Encoder-decoder: source[i] and target[i] belong together. Decoder-only: source is empty.
struct Batch {
    PackedTokens source;
    PackedTokens target;               ///< what the decoder reads
    std::vector<std::int32_t> labels;  ///< [target rows]: what it should say next; -1 = not counted
    std::int64_t label_count = 0;      ///< labels that count
};

/// The most that one micro-batch can hold; arenas and static graphs are sized by it.
struct BatchCapacity {
    std::int64_t source_rows = 0;
    std::int64_t target_rows = 0;
    std::int64_t sequences = 0;
    std::int64_t max_source_length = 0;
    std::int64_t max_target_length = 0;
};

[[nodiscard]] BatchCapacity batch_capacity(const DataConfig& config, ModelKind kind);

/// Where training stands in the data: everything before this has been trained on.
struct DataPosition {
    std::int64_t epoch = 0;     ///< 0-based
    std::int64_t examples = 0;  ///< examples of this epoch already taken, in this epoch's order
    bool operator==(const DataPosition&) const = default;
};

/// What one global step trains on: micro-batch j goes to rank j mod R.
struct GlobalStep {
    std::vector<Batch> micro_batches;  ///< only those asked for are filled; the last step of an epoch may have fewer
    DataPosition next;                 ///< the position after it
    bool ends_epoch = false;
};

/// The training split in this epoch's order. Bounded memory: a window of shards is held at a time.
class TrainingData {
   public:
    virtual ~TrainingData() = default;
    /// Micro-batches j with j mod ranks == rank of the global step that begins at `position`; the others are left empty
    /// but are counted, so that every rank gets the same `next`. A step never crosses the end of an epoch.
    [[nodiscard]] virtual GlobalStep step(const DataPosition& position, std::int64_t micro_batches, int rank,
                                          int ranks) = 0;
    [[nodiscard]] virtual std::int64_t examples_per_epoch() const = 0;
};

/// Opens the shards of `config.path`; kData where manifest, vocabulary hash or a checksum does not fit.
[[nodiscard]] std::unique_ptr<TrainingData> open_training_data(const DataConfig& config, ModelKind kind,
                                                               std::uint64_t seed);

/// The validation split as micro-batches in a fixed order; empty when there is none.
[[nodiscard]] std::vector<Batch> load_validation_batches(const DataConfig& config, ModelKind kind);

}  // namespace duologue
