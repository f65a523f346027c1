// A micro-batch on its way from the host to the device.
#include <utility>

#include "duologue/core/error.h"
#include "duologue/model/transformer.h"
#include "model/tiling.h"

namespace duologue {
namespace {

struct Side {
    const char* name;
    std::int64_t rows;
    std::int64_t sequences;
    std::int64_t max_length;
};

PackedRows allocate_rows(Arena& arena, const Side& side, Packing packing) {
    PackedRows rows;
    rows.tokens = arena.allocate_vector(DataType::kI32, side.rows);
    rows.positions = arena.allocate_vector(DataType::kI32, side.rows);
    rows.offsets = {.values = arena.allocate_vector(DataType::kI32, side.sequences + 1),
                    .sequences = side.sequences,
                    .max_length = side.max_length,
                    .packing = packing};
    return rows;
}

void check_fits(const PackedTokens& packed, const Side& capacity) {
    require(packed.rows() <= capacity.rows && packed.sequences() <= capacity.sequences, ErrorCode::kData,
            "a micro-batch of {} {} rows in {} sequences is larger than its capacity of {} rows in {} sequences",
            packed.rows(), capacity.name, packed.sequences(), capacity.rows, capacity.sequences);
    for (std::size_t i = 1; i < packed.offsets.size(); ++i) {
        const std::int64_t length = packed.offsets[i] - packed.offsets[i - 1];
        require(length >= 0 && length <= capacity.max_length, ErrorCode::kData,
                "{} sequence {} of a micro-batch is {} tokens long; the model was made for {} at most", capacity.name,
                i - 1, length, capacity.max_length);
    }
}

void upload_rows(Backend& backend, const PackedRows& rows, const PackedTokens& packed) {
    backend.upload(rows.tokens, packed.tokens.data());
    backend.upload(rows.positions, packed.positions.data());
    backend.upload(rows.offsets.values, packed.offsets.data());
}

void check_fits(const Batch& batch, const BatchCapacity& capacity) {
    check_fits(batch.source, {"source", capacity.source_rows, capacity.sequences, capacity.max_source_length});
    check_fits(batch.target, {"target", capacity.target_rows, capacity.sequences, capacity.max_target_length});
    require(capacity.source_rows == 0 || batch.source.sequences() == batch.target.sequences(), ErrorCode::kData,
            "a micro-batch of {} source and {} target sequences", batch.source.sequences(), batch.target.sequences());
    require(static_cast<std::int64_t>(batch.labels.size()) == batch.target.rows(), ErrorCode::kData,
            "a micro-batch of {} target rows and {} labels", batch.target.rows(), batch.labels.size());
}

// Tensors of exactly these rows and sequences.
DeviceBatch allocate_exactly(Arena& arena, const BatchCapacity& size, Packing packing) {
    DeviceBatch batch;
    if (size.source_rows > 0) {
        const Side source{"source", size.source_rows, size.sequences, size.max_source_length};
        batch.source = allocate_rows(arena, source, packing);
    }
    const Side target{"target", size.target_rows, size.sequences, size.max_target_length};
    batch.target = allocate_rows(arena, target, packing);
    batch.labels = arena.allocate_vector(DataType::kI32, size.target_rows);
    return batch;
}

DeviceBatch upload_as_it_is(Backend& backend, Arena& arena, const Batch& batch, const BatchCapacity& lengths,
                            Packing packing) {
    const DeviceBatch device = allocate_exactly(arena,
                                                {.source_rows = batch.source.rows(),
                                                 .target_rows = batch.target.rows(),
                                                 .sequences = batch.target.sequences(),
                                                 .max_source_length = lengths.max_source_length,
                                                 .max_target_length = lengths.max_target_length},
                                                packing);
    if (!device.source.tokens.empty()) upload_rows(backend, device.source, batch.source);
    upload_rows(backend, device.target, batch.target);
    backend.upload(device.labels, batch.labels.data());
    return device;
}

}  // namespace

DeviceBatch allocate_batch(Arena& arena, const BatchCapacity& capacity, Packing packing) {
    return allocate_exactly(arena, packing == Packing::kTiled ? tiled(capacity) : capacity, packing);
}

DeviceBatch upload_batch(Backend& backend, Arena& arena, const Batch& batch, const BatchCapacity& capacity) {
    check_fits(batch, capacity);
    const Packing packing = backend.packing();
    if (packing == Packing::kPlain) return upload_as_it_is(backend, arena, batch, capacity, packing);
    return upload_as_it_is(backend, arena, tiled(batch, capacity), tiled(capacity), packing);
}

}  // namespace duologue
