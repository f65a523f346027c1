// How many sequences are appended, and how long they are.
#include "model/tiling.h"

#include <algorithm>
#include <bit>
#include <vector>

#include "duologue/core/rounding.h"

namespace duologue {

namespace {

constexpr std::int32_t kPad = 0;  // any token is as good: nothing of it counts

// The largest power of two up to `count`, which is at least 1.
std::int64_t power_up_to(std::int64_t count) {
    return static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(count)));
}

std::int64_t sequence_multiple(std::int64_t sequences) {
    return std::clamp(power_up_to(sequences) / 4, kTileSequences, kMostSequenceMultiple);
}

// At most a thirty-second is added to many rows.
std::int64_t rounded_rows(std::int64_t rows) {
    return rounded_up(rows, std::clamp(power_up_to(rows) / 32, kTileRows, kMostRowMultiple));
}

bool nearly_full(std::int64_t rows, std::int64_t capacity_rows) { return rows > capacity_rows - capacity_rows / 8; }

// No batch needs more sequences before the last one to hold what a side lacks, a tile's rows each at most.
std::int64_t most_fillers(const BatchCapacity& capacity) {
    const std::int64_t rows = std::max(capacity.source_rows, capacity.target_rows);
    return divided_up(rows / 8 + kMostRowMultiple + kMostSequenceMultiple + kTileRows, kTileRows - 1);
}

// Of a side that is full, with one row at least for every sequence that is appended.
std::int64_t full_rows(std::int64_t capacity_rows, const BatchCapacity& capacity) {
    if (capacity_rows == 0) return 0;
    const std::int64_t appended = sequence_multiple(capacity.sequences) + most_fillers(capacity);
    return rounded_up(capacity_rows + appended + kTileRows, kTileRows);
}

// A side of a batch, and what its capacity leaves it.
struct Side {
    PackedTokens& packed;
    std::int64_t capacity_rows;
    std::int64_t full_rows;

    [[nodiscard]] std::int64_t rows() const { return packed.rows(); }

    // So many sequences hold what may be missing.
    [[nodiscard]] std::int64_t needed_fillers() const {
        const bool full = nearly_full(rows(), capacity_rows);
        return full ? divided_up(full_rows - rows() - kTileRows, kTileRows)
                    : divided_up(kMostRowMultiple, kTileRows - 1);
    }

    void append_sequence(std::int64_t count) const {
        const auto size = static_cast<std::size_t>(rows() + count);
        packed.tokens.resize(size, kPad);
        packed.positions.resize(size, 0);
        packed.offsets.push_back(static_cast<std::int32_t>(size));
    }

    void append(std::int64_t fillers) const {
        const std::int64_t least = rows() + fillers + kTileRows;
        const bool full = nearly_full(rows(), capacity_rows);
        std::int64_t missing = (full ? full_rows : std::min(rounded_rows(least), full_rows)) - least;
        for (std::int64_t i = 0; i < fillers; ++i) {
            const std::int64_t more = std::min(missing, kTileRows - 1);
            append_sequence(1 + more);
            missing -= more;
        }
        append_sequence(kTileRows);
    }
};

std::int64_t tiled_length(std::int64_t length) { return length == 0 ? 0 : std::max(length, kTileRows); }

}  // namespace

Batch tiled(const Batch& batch, const BatchCapacity& capacity) {
    Batch result = batch;
    std::vector<Side> sides;
    const auto add = [&](PackedTokens& packed, std::int64_t capacity_rows) {
        sides.push_back({packed, capacity_rows, full_rows(capacity_rows, capacity)});
    };
    if (capacity.source_rows > 0) add(result.source, capacity.source_rows);
    add(result.target, capacity.target_rows);
    std::int64_t needed = 0;
    for (const Side& side : sides) needed = std::max(needed, side.needed_fillers());
    const std::int64_t sequences = batch.target.sequences();
    const std::int64_t fillers = rounded_up(sequences + needed + 1, sequence_multiple(sequences)) - sequences - 1;
    for (const Side& side : sides) side.append(fillers);
    result.labels.resize(result.target.tokens.size(), -1);
    return result;
}

BatchCapacity tiled(const BatchCapacity& capacity) {
    const std::int64_t most = capacity.sequences + most_fillers(capacity) + 1;
    return {.source_rows = full_rows(capacity.source_rows, capacity),
            .target_rows = full_rows(capacity.target_rows, capacity),
            .sequences = rounded_up(most, sequence_multiple(capacity.sequences)),
            .max_source_length = tiled_length(capacity.max_source_length),
            .max_target_length = tiled_length(capacity.max_target_length)};
}

}  // namespace duologue
