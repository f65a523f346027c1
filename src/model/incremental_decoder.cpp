// Decoding one token at a time: the encoder runs once, keys and values of what was read before stay in a cache.
#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

#include "duologue/core/error.h"
#include "model/head.h"
#include "model/layers.h"

namespace duologue {
namespace {

struct BlockCache {
    Tensor qkv;     ///< act [max_target_length, 3C]: the fused projection of every token read
    Tensor memory;  ///< act [max_source_length, 2C]: keys and values of the encoder's output
};

struct Capacity {
    std::int64_t source = 0;
    std::int64_t target = 0;
};

/// Device memory that lasts from call to call.
struct Cache {
    std::vector<BlockCache> blocks;
    PackedRows source;  ///< of the capacity
    PackedRows token;   ///< the one row of a step; its offsets are not used
    Tensor length;      ///< i32 [1]: rows of `qkv` that are valid, the step's own included
    Tensor source_length;
    Tensor logits;  ///< f32 [1,V]
};

Cache allocate_cache(Arena& arena, const Transformer::Layers& layers, const Capacity& capacity) {
    Cache cache;
    const std::int64_t width = layers.config.width;
    for (const Block& block : layers.decoder.blocks) {
        BlockCache& rows = cache.blocks.emplace_back();
        rows.qkv = arena.allocate(layers.type, capacity.target, 3 * width);
        if (block.cross_attention) rows.memory = arena.allocate(layers.type, capacity.source, 2 * width);
    }
    const auto indices = [&](std::int64_t count) { return arena.allocate_vector(DataType::kI32, count); };
    cache.source = {.tokens = indices(capacity.source),
                    .positions = indices(capacity.source),
                    .offsets = {.values = indices(2), .sequences = 1, .max_length = capacity.source}};
    cache.token = {.tokens = indices(1), .positions = indices(1), .offsets = {}};
    cache.length = indices(1);
    cache.source_length = indices(1);
    cache.logits = arena.allocate(DataType::kF32, 1, layers.vocabulary_size);
    return cache;
}

/// Runs the encoder over `rows` tokens, already in the cache, and fills every block's `memory`.
void fill_memory(const ForwardPass& pass, const Transformer::Layers& layers, const Cache& cache, std::int64_t rows) {
    const Arena::Scope scope(pass.arena);
    PackedRows source = cache.source;
    source.tokens = source.tokens.column_range(0, rows);
    source.positions = source.positions.column_range(0, rows);
    StackInput input;
    StackSaved saved;
    const Memory memory = encode(pass, layers, source, input, saved);
    for (std::size_t i = 0; i < cache.blocks.size(); ++i) {
        linear_forward(pass, layers.decoder.blocks[i].cross_attention->layer.kv,
                       cache.blocks[i].memory.row_range(0, rows), memory.rows);
    }
}

/// Attention of one query to a cache of keys and values [capacity, 2C].
Tensor attend(const ForwardPass& pass, const AttentionShape& shape, const Linear& out, const Tensor& q,
              const Tensor& kv, const Tensor& length) {
    const Tensor y = pass.activations(1, shape.width);
    pass.backend.attention_decode(y, {.q = q,
                                      .k_cache = kv.column_range(0, shape.width),
                                      .v_cache = kv.column_range(shape.width, shape.width),
                                      .lengths = length,
                                      .capacity = kv.rows,
                                      .heads = shape.heads,
                                      .scale = attention_scale(shape)});
    const Tensor delta = pass.activations(1, shape.width);
    linear_forward(pass, out, delta, y);
    return delta;
}

Stream block_step(const ForwardPass& pass, const Block& block, const Cache& cache, const BlockCache& rows,
                  std::int64_t position, Stream stream) {
    BlockSaved saved;
    const SelfAttention& self = block.self_attention.layer;
    const std::int64_t width = self.shape.width;
    const Tensor qkv = rows.qkv.row_range(position, 1);
    linear_forward(pass, self.qkv, qkv, stream.normed);
    Tensor delta = attend(pass, self.shape, self.out, qkv.column_range(0, width),
                          rows.qkv.column_range(width, 2 * width), cache.length);
    stream = seam_forward(pass, block.self_attention.seam, stream, delta, saved.self_attention.norm);
    if (block.cross_attention) {
        const CrossAttention& cross = block.cross_attention->layer;
        const Tensor q = pass.activations(1, width);
        linear_forward(pass, cross.q, q, stream.normed);
        delta = attend(pass, cross.shape, cross.out, q, rows.memory, cache.source_length);
        stream = seam_forward(pass, block.cross_attention->seam, stream, delta, saved.cross_attention.norm);
    }
    delta = feed_forward_forward(pass, block.feed_forward.layer, stream.normed, saved.feed_forward.layer);
    return seam_forward(pass, block.feed_forward.seam, stream, delta, saved.feed_forward.norm);
}

/// Takes the token in the cache, the position-th, through the decoder to cache.logits.
void run_step(const ForwardPass& pass, const Transformer::Layers& layers, const Cache& cache, std::int64_t position) {
    const Arena::Scope scope(pass.arena);
    const Tensor x = embedding_forward(pass, layers.target_embedding, cache.token, layers.positions);
    Stream stream{.normed = x, .sum = x};
    NormSaved unused;
    if (layers.decoder.opening_norm) stream = opening_norm_forward(pass, *layers.decoder.opening_norm, x, unused);
    for (std::size_t i = 0; i < cache.blocks.size(); ++i) {
        stream = block_step(pass, layers.decoder.blocks[i], cache, cache.blocks[i], position, stream);
    }
    const Tensor logits = pass.activations(1, layers.vocabulary_size);
    head_logits(pass.backend, logits, stream.normed, pass.weights[layers.target_embedding.table]);
    pass.backend.cast(cache.logits, logits);
}

}  // namespace

struct IncrementalDecoder::State {
    State(const Transformer::Layers& model, Backend& device, const Tensor& weights, const Capacity& most)
        : layers(model), backend(device), values(model.table, weights), capacity(most) {}

    const Transformer::Layers& layers;
    Backend& backend;
    ParameterViews values;
    Capacity capacity;
    DeviceBuffer memory;
    Arena arena;
    Cache cache;
    std::vector<float> logits;
    std::int64_t length = 0;

    [[nodiscard]] ForwardPass pass_on(Backend& device, Arena& scratch) const {
        return {.backend = device, .arena = scratch, .weights = values, .mode = Mode::kEvaluate};
    }

    [[nodiscard]] std::int64_t planned_bytes() const {
        const std::unique_ptr<PlanningBackend> planning = make_planning_backend(backend);
        Arena measuring;
        const Cache planned = allocate_cache(measuring, layers, capacity);
        const ForwardPass pass = pass_on(*planning, measuring);
        if (layers.encoder) fill_memory(pass, layers, planned, capacity.source);
        run_step(pass, layers, planned, capacity.target - 1);
        return measuring.peak_bytes();
    }

    void advance(std::int32_t token) {
        require(length < capacity.target, ErrorCode::kInternal, "a reply longer than the {} tokens there is room for",
                capacity.target);
        const auto position = static_cast<std::int32_t>(length);
        const std::int32_t valid = position + 1;
        backend.upload(cache.token.tokens, &token);
        backend.upload(cache.token.positions, &position);
        backend.upload(cache.length, &valid);
        run_step(pass_on(backend, arena), layers, cache, length);
        ++length;
    }
};

IncrementalDecoder::IncrementalDecoder(const Transformer& model, Backend& backend, const Tensor& weights,
                                       std::int64_t max_source_length, std::int64_t max_target_length)
    : state_(std::make_unique<State>(model.layers(), backend, weights,
                                     Capacity{.source = max_source_length, .target = max_target_length})) {
    require(max_source_length > 0 && max_target_length > 0 &&
                std::max(max_source_length, max_target_length) <= model.layers().max_length,
            ErrorCode::kConfiguration, "decoding {} tokens after {}: the model knows positions up to {}",
            max_target_length, max_source_length, model.layers().max_length);
    const std::int64_t bytes = state_->planned_bytes();
    state_->memory = backend.allocate(bytes);
    state_->arena = Arena(state_->memory.data(), bytes);
    state_->cache = allocate_cache(state_->arena, state_->layers, state_->capacity);
    state_->logits.resize(static_cast<std::size_t>(model.vocabulary_size()));
}

IncrementalDecoder::~IncrementalDecoder() = default;

void IncrementalDecoder::begin(std::span<const std::int32_t> source) {
    State& state = *state_;
    state.length = 0;
    if (!state.layers.encoder) {
        for (const std::int32_t token : source) state.advance(token);
        return;
    }
    const auto rows = static_cast<std::int64_t>(source.size());
    require(rows > 0 && rows <= state.capacity.source, ErrorCode::kData, "a context of {} tokens, expected 1 to {}",
            rows, state.capacity.source);
    std::vector<std::int32_t> positions(source.size());
    std::iota(positions.begin(), positions.end(), 0);
    const auto length = static_cast<std::int32_t>(rows);
    const std::array<std::int32_t, 2> offsets{0, length};
    const PackedRows& device = state.cache.source;
    state.backend.upload(device.tokens.column_range(0, rows), source.data());
    state.backend.upload(device.positions.column_range(0, rows), positions.data());
    state.backend.upload(device.offsets.values, offsets.data());
    state.backend.upload(state.cache.source_length, &length);
    fill_memory(state.pass_on(state.backend, state.arena), state.layers, state.cache, rows);
}

std::span<const float> IncrementalDecoder::step(std::int32_t token) {
    state_->advance(token);
    state_->backend.download(state_->logits.data(), state_->cache.logits);
    return state_->logits;
}

std::int64_t IncrementalDecoder::length() const { return state_->length; }

}  // namespace duologue
