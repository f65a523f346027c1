// Tiling: a micro-batch brought to Packing::kTiled by sequences that count for nothing.
#pragma once

#include "duologue/backend/backend.h"
#include "duologue/data/batches.h"

namespace duologue {

/// Sequences of a tiled batch come in multiples of this, rows in multiples of at least kTileRows that grow with them to
/// kMostRowMultiple: then batches of nearly the same size are of the same size, and what is made for a size is of use
/// again.
inline constexpr std::int64_t kTileSequences = 64;
inline constexpr std::int64_t kMostRowMultiple = 512;

/// The batch with sequences of <pad> behind it on both sides, at position 0 and with labels that do not count: several,
/// of which the last has kTileRows rows and the others at least one and at most so many. Losses and gradients are the
/// batch's own.
[[nodiscard]] Batch tiled(const Batch& batch);

/// Room for the tiled form of every batch within `capacity`. No sequence is longer than the capacity's or kTileRows.
[[nodiscard]] BatchCapacity tiled(const BatchCapacity& capacity);

}  // namespace duologue
