// How many sequences are appended, and how long they are.
#include "model/tiling.h"

#include <algorithm>

namespace duologue {

namespace {

constexpr std::int32_t kPad = 0;  // any token is as good: nothing of it counts

std::int64_t rounded_up(std::int64_t value, std::int64_t multiple) {
    return (value + multiple - 1) / multiple * multiple;
}

// With two or more appended, the first of them can take what is missing to whole tiles.
std::int64_t tiled_sequences(std::int64_t sequences) { return rounded_up(sequences + 2, kTileSequences); }

void append_sequence(PackedTokens& packed, std::int64_t rows) {
    const auto size = static_cast<std::size_t>(packed.rows() + rows);
    packed.tokens.resize(size, kPad);
    packed.positions.resize(size, 0);
    packed.offsets.push_back(static_cast<std::int32_t>(size));
}

void tile(PackedTokens& packed) {
    const std::int64_t fillers = tiled_sequences(packed.sequences()) - packed.sequences() - 1;
    const std::int64_t least = packed.rows() + fillers + kTileRows;
    append_sequence(packed, 1 + rounded_up(least, kTileRows) - least);
    for (std::int64_t i = 1; i < fillers; ++i) append_sequence(packed, 1);
    append_sequence(packed, kTileRows);
}

std::int64_t tiled_rows(std::int64_t rows) {
    return rows == 0 ? 0 : rounded_up(rows + kTileSequences + kTileRows, kTileRows);
}

std::int64_t tiled_length(std::int64_t length) { return length == 0 ? 0 : std::max(length, kTileRows); }

}  // namespace

Batch tiled(const Batch& batch) {
    Batch result = batch;
    if (batch.source.rows() > 0) tile(result.source);
    tile(result.target);
    result.labels.resize(result.target.tokens.size(), -1);
    return result;
}

BatchCapacity tiled(const BatchCapacity& capacity) {
    return {.source_rows = tiled_rows(capacity.source_rows),
            .target_rows = tiled_rows(capacity.target_rows),
            .sequences = tiled_sequences(capacity.sequences),
            .max_source_length = tiled_length(capacity.max_source_length),
            .max_target_length = tiled_length(capacity.max_target_length)};
}

}  // namespace duologue
