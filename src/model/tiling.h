// Tiling: a micro-batch brought to Packing::kTiled by sequences that count for nothing.
#pragma once

#include "duologue/backend/backend.h"
#include "duologue/data/batches.h"

namespace duologue {

/// Few sizes, so that what is made for a size is of use again. A side that is nearly full gets the rows of one that is
/// full; fewer rows come in multiples of at least kTileRows that grow with them to kMostRowMultiple, sequences in
/// multiples that grow with them from kTileSequences to kMostSequenceMultiple.
inline constexpr std::int64_t kTileSequences = 64;
inline constexpr std::int64_t kMostSequenceMultiple = 128;
inline constexpr std::int64_t kMostRowMultiple = 512;

/// The batch, which is within `capacity`, with sequences of <pad> behind it on both sides, at position 0 and with
/// labels that do not count: several, of which the last has kTileRows rows and the others at least one and at most so
/// many. Losses and gradients are the batch's own.
[[nodiscard]] Batch tiled(const Batch& batch, const BatchCapacity& capacity);

/// Room for the tiled form of every batch within `capacity`. No sequence is longer than the capacity's or kTileRows.
[[nodiscard]] BatchCapacity tiled(const BatchCapacity& capacity);

}  // namespace duologue
