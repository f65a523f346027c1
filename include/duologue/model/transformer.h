// Transformer: the encoder-decoder of "Attention Is All You Need" over a back end, forward and explicit backward.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "duologue/backend/backend.h"
#include "duologue/config/config.h"
#include "duologue/core/arena.h"
#include "duologue/data/batches.h"
#include "duologue/model/parameters.h"

namespace duologue {

/// Packed sequences in device memory.
struct PackedRows {
    Tensor tokens;     ///< i32 [N]
    Tensor positions;  ///< i32 [N]
    Offsets offsets;
};

/// A micro-batch in device memory.
struct DeviceBatch {
    PackedRows source;  ///< absent in decoder-only models
    PackedRows target;
    Tensor labels;  ///< i32 [target rows]
};

/// Uninitialised device tensors as large as those of any micro-batch within `capacity` in this packing, the back end's:
/// what a planning pass runs on.
[[nodiscard]] DeviceBatch allocate_batch(Arena& arena, const BatchCapacity& capacity, Packing packing);

/// Device tensors of `batch` inside the arena, of its true number of rows and sequences and what the back end's packing
/// appends to them. Error kData where it does not fit `capacity`. Offsets::max_length is the capacity's, so that plans
/// made for it serve every batch.
[[nodiscard]] DeviceBatch upload_batch(Backend& backend, Arena& arena, const Batch& batch,
                                       const BatchCapacity& capacity);

/// Called by the backward pass on the host as soon as the gradients [begin, end) of the flat buffer are queued to be
/// final. The ranges of one call of train_step() follow each other without gap from 0 to elements(). May be empty.
using GradientsFinished = std::function<void(std::int64_t begin, std::int64_t end)>;

/// Dropout takes its random numbers from the back end's key: the caller sets it before each micro-batch. What a pass
/// allocates from `arena` grows with rows, sequences and lengths and with nothing else, so an arena measured with an
/// allocate_batch() of the capacity (on a planning back end) has room for every batch within it.
class Transformer {
   public:
    /// Error kConfiguration where the shape is impossible.
    Transformer(const ModelConfig& config, std::int64_t vocabulary_size, Precision precision,
                std::int64_t max_source_length, std::int64_t max_target_length);
    ~Transformer();
    Transformer(Transformer&&) noexcept;
    Transformer& operator=(Transformer&&) noexcept;
    Transformer(const Transformer&) = delete;
    Transformer& operator=(const Transformer&) = delete;

    [[nodiscard]] const ParameterTable& parameters() const;
    [[nodiscard]] const ModelConfig& config() const;
    [[nodiscard]] std::int64_t vocabulary_size() const;
    [[nodiscard]] DataType activation_type() const;

    /// The constant tables (sinusoids) in device memory of `backend`, which has to outlive the model or the next call;
    /// before anything else, and again when the back end changes.
    void prepare(Backend& backend);

    /// Forward, loss and backward of one micro-batch. `weights`: act [elements()]. `gradients` f32 [elements()] +=, of
    /// the sum of the label-smoothed losses. `losses` f32 [target rows], overwritten. `smoothing` is the loss's.
    void train_step(Backend& backend, Arena& arena, const DeviceBatch& batch, const Tensor& weights,
                    const Tensor& gradients, const Tensor& losses, float smoothing,
                    const GradientsFinished& on_finished) const;

    /// Forward and loss only, no dropout. `losses` f32 [target rows], overwritten.
    void evaluate(Backend& backend, Arena& arena, const DeviceBatch& batch, const Tensor& weights, const Tensor& losses,
                  float smoothing) const;

    /// Forward only, no dropout. `logits` act [target rows, V].
    void logits(Backend& backend, Arena& arena, const DeviceBatch& batch, const Tensor& weights,
                const Tensor& logits) const;

    struct Layers;  // private to src/model
    [[nodiscard]] const Layers& layers() const { return *layers_; }

   private:
    std::unique_ptr<Layers> layers_;
};

/// Says one reply word by word, with a cache of keys and values. One conversation at a time.
class IncrementalDecoder {
   public:
    /// `weights` act [elements()] stays the caller's. Capacities are the model's maximal lengths.
    IncrementalDecoder(const Transformer& model, Backend& backend, const Tensor& weights,
                       std::int64_t max_source_length, std::int64_t max_target_length);
    ~IncrementalDecoder();
    IncrementalDecoder(const IncrementalDecoder&) = delete;
    IncrementalDecoder& operator=(const IncrementalDecoder&) = delete;
    IncrementalDecoder(IncrementalDecoder&&) = delete;
    IncrementalDecoder& operator=(IncrementalDecoder&&) = delete;

    /// Begins a reply to `source` (at least one token): runs the encoder and fills the cross-attention cache. In a
    /// decoder-only model `source` is what was said so far, and is read token by token.
    void begin(std::span<const std::int32_t> source);
    /// Reads `token` (first <sos>) and returns the logits of the next one, f32 [V] on the host, valid until the next
    /// call.
    [[nodiscard]] std::span<const float> step(std::int32_t token);
    [[nodiscard]] std::int64_t length() const;  ///< tokens read since begin()

   private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace duologue
