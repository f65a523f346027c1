// How many sequences are appended, and how long they are.
#include "model/tiling.h"

#include <algorithm>
#include <bit>

#include "duologue/core/rounding.h"

namespace duologue {

namespace {

constexpr std::int32_t kPad = 0;  // any token is as good: nothing of it counts

// At most a thirty-second is added to many rows.
std::int64_t rounded_rows(std::int64_t rows) {
    const auto share = static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(rows)) / 32);
    return rounded_up(rows, std::clamp(share, kTileRows, kMostRowMultiple));
}

// Besides the last, as many as it takes to hold what is missing to whole multiples, a tile's rows each at most.
constexpr std::int64_t kLeastFillers = kMostRowMultiple / (kTileRows - 1) + 1;

std::int64_t tiled_sequences(std::int64_t sequences) {
    return rounded_up(sequences + kLeastFillers + 1, kTileSequences);
}

void append_sequence(PackedTokens& packed, std::int64_t rows) {
    const auto size = static_cast<std::size_t>(packed.rows() + rows);
    packed.tokens.resize(size, kPad);
    packed.positions.resize(size, 0);
    packed.offsets.push_back(static_cast<std::int32_t>(size));
}

void tile(PackedTokens& packed) {
    const std::int64_t fillers = tiled_sequences(packed.sequences()) - packed.sequences() - 1;
    const std::int64_t least = packed.rows() + fillers + kTileRows;
    std::int64_t missing = rounded_rows(least) - least;
    for (std::int64_t i = 0; i < fillers; ++i) {
        const std::int64_t more = std::min(missing, kTileRows - 1);
        append_sequence(packed, 1 + more);
        missing -= more;
    }
    append_sequence(packed, kTileRows);
}

std::int64_t tiled_rows(std::int64_t rows) {
    return rows == 0 ? 0 : rounded_rows(rows + kTileSequences + kLeastFillers + kTileRows);
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
