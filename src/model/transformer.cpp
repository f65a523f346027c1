// The whole model: embeddings, encoder, decoder, head; forward, and backward in the order of the parameter table.
#include "duologue/model/transformer.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "duologue/core/error.h"
#include "model/head.h"
#include "model/layers.h"

namespace duologue {
namespace {

void check_shape(const ModelConfig& config, std::int64_t vocabulary_size) {
    require(config.heads > 0 && config.width > 0 && config.width % config.heads == 0, ErrorCode::kConfiguration,
            "model.width {} is not a multiple of model.heads {}", config.width, config.heads);
    require(config.width % 2 == 0, ErrorCode::kConfiguration,
            "model.width {} is odd; sinusoidal positions need sine and cosine pairs", config.width);
    require(config.decoder_layers > 0 && config.hidden > 0 && vocabulary_size > 0, ErrorCode::kConfiguration,
            "a model of {} decoder layers, hidden width {} and {} words: each has to be positive",
            config.decoder_layers, config.hidden, vocabulary_size);
    require(config.kind == ModelKind::kDecoderOnly || config.encoder_layers > 0, ErrorCode::kConfiguration,
            "model.encoder_layers is {}; an encoder-decoder needs at least one", config.encoder_layers);
}

/// In the order in which the backward pass finishes the gradients: decoder, encoder, and last the shared embedding,
/// which the head, the target's and the source's embedding all add to.
void declare_layers(Transformer::Layers& layers) {
    const ModelConfig& config = layers.config;
    const bool encoder_decoder = config.kind == ModelKind::kEncoderDecoder;
    std::uint64_t site = 1;
    layers.decoder = declare_stack(layers.table, config,
                                   {.name = "decoder",
                                    .layers = config.decoder_layers,
                                    .causal = Causal::kYes,
                                    .cross = encoder_decoder ? StackShape::Cross::kMemory : StackShape::Cross::kNone},
                                   site);
    if (encoder_decoder) {
        layers.encoder =
            declare_stack(layers.table, config, {.name = "encoder", .layers = config.encoder_layers}, site);
    }
    const double deviation = 1.0 / std::sqrt(static_cast<double>(config.width));
    const std::size_t shared =
        layers.table.add("embedding.weight", layers.vocabulary_size, config.width, Initializer::kNormal, deviation);
    const auto probability = static_cast<float>(config.dropout);
    layers.target_embedding = {.table = shared, .dropout = {.probability = probability, .site = site++}};
    layers.source_embedding = {.table = shared, .dropout = {.probability = probability, .site = site++}};
}

/// Turns "so many entries are final" into contiguous ranges of the flat buffer.
class FinishedRanges {
   public:
    FinishedRanges(const ParameterTable& table, const GradientsFinished& on_finished)
        : table_(table), on_finished_(on_finished) {}

    void entries_finished(std::size_t entries) {
        const bool all = entries == table_.entries().size();
        const std::int64_t end = all ? table_.elements() : table_.entries()[entries].offset;
        on_finished_(begin_, end);
        begin_ = end;
    }

   private:
    const ParameterTable& table_;
    const GradientsFinished& on_finished_;
    std::int64_t begin_ = 0;
};

/// A micro-batch on its way through encoder and decoder, with what the backward pass needs.
struct Flow {
    StackInput encoder;
    StackInput decoder;
    StackSaved encoder_saved;
    StackSaved decoder_saved;
    Tensor y;  ///< act [target rows, C]: what the head reads
};

Flow run_stacks(const ForwardPass& pass, const Transformer::Layers& layers, const DeviceBatch& batch) {
    require(!layers.positions.empty(), ErrorCode::kInternal, "Transformer::prepare() has to come first");
    Flow flow;
    flow.decoder.offsets = batch.target.offsets;
    if (layers.encoder) {
        flow.decoder.memory = encode(pass, layers, batch.source, flow.encoder, flow.encoder_saved);
    }
    flow.decoder.x = embedding_forward(pass, layers.target_embedding, batch.target, layers.positions);
    flow.y = stack_forward(pass, layers.decoder, flow.decoder, flow.decoder_saved);
    return flow;
}

/// Back through the decoder and the target's embedding; dmemory f32 += (absent without an encoder).
void decoder_backward(const BackwardPass& pass, const Transformer::Layers& layers, const DeviceBatch& batch,
                      const Flow& flow, const Tensor& dy, const Tensor& dmemory, const EntriesFinished& finished) {
    const Arena::Scope scope(pass.arena);
    const Tensor dx = stack_backward(pass, layers.decoder, flow.decoder, flow.decoder_saved, dy, dmemory, finished);
    embedding_backward(pass, layers.target_embedding, batch.target, layers.positions, dx);
}

/// Back through the encoder and the source's embedding.
void encoder_backward(const BackwardPass& pass, const Transformer::Layers& layers, const DeviceBatch& batch,
                      const Flow& flow, const Tensor& dmemory, const EntriesFinished& finished) {
    const Arena::Scope scope(pass.arena);
    const Tensor dy = pass.activations(dmemory.rows, dmemory.columns);
    pass.backend.cast(dy, dmemory);
    const Tensor dx = stack_backward(pass, *layers.encoder, flow.encoder, flow.encoder_saved, dy, {}, finished);
    embedding_backward(pass, layers.source_embedding, batch.source, layers.positions, dx);
}

}  // namespace

Memory encode(const ForwardPass& pass, const Transformer::Layers& layers, const PackedRows& source, StackInput& input,
              StackSaved& saved) {
    input = {.x = embedding_forward(pass, layers.source_embedding, source, layers.positions),
             .offsets = source.offsets,
             .memory = {}};
    return {.rows = stack_forward(pass, *layers.encoder, input, saved), .offsets = source.offsets};
}

Transformer::Transformer(const ModelConfig& config, std::int64_t vocabulary_size, Precision precision,
                         std::int64_t max_source_length, std::int64_t max_target_length)
    : layers_(std::make_unique<Layers>()) {
    check_shape(config, vocabulary_size);
    layers_->config = config;
    layers_->vocabulary_size = vocabulary_size;
    layers_->max_length = std::max(max_source_length, max_target_length);
    layers_->type = precision == Precision::kBf16 ? DataType::kBf16 : DataType::kF32;
    declare_layers(*layers_);
}

Transformer::~Transformer() = default;
Transformer::Transformer(Transformer&&) noexcept = default;
Transformer& Transformer::operator=(Transformer&&) noexcept = default;

const ParameterTable& Transformer::parameters() const { return layers_->table; }
const ModelConfig& Transformer::config() const { return layers_->config; }
std::int64_t Transformer::vocabulary_size() const { return layers_->vocabulary_size; }
DataType Transformer::activation_type() const { return layers_->type; }

void Transformer::prepare(Backend& backend) {
    const std::vector<float> values = sinusoidal_positions(layers_->max_length, layers_->config.width);
    const auto elements = static_cast<std::int64_t>(values.size());
    layers_->position_memory = backend.allocate(elements * size_of(layers_->type));
    layers_->positions =
        make_tensor(layers_->position_memory.data(), layers_->type, layers_->max_length, layers_->config.width);
    if (layers_->type == DataType::kF32) {
        backend.upload(layers_->positions, values.data());
    } else {
        const std::vector<Bfloat16> rounded(values.begin(), values.end());
        backend.upload(layers_->positions, rounded.data());
    }
}

void Transformer::train_step(Backend& backend, Arena& arena, const DeviceBatch& batch, const Tensor& weights,
                             const Tensor& gradients, const Tensor& losses, float smoothing,
                             const GradientsFinished& on_finished) const {
    const Arena::Scope scope(arena);
    const ParameterViews values(layers_->table, weights);
    const ForwardPass forward{.backend = backend, .arena = arena, .weights = values, .mode = Mode::kTrain};
    const Flow flow = run_stacks(forward, *layers_, batch);

    const BackwardPass backward{
        .backend = backend, .arena = arena, .weights = values, .gradients = ParameterViews(layers_->table, gradients)};
    FinishedRanges ranges(layers_->table, on_finished);
    const EntriesFinished finished = [&](std::size_t entries) { ranges.entries_finished(entries); };
    const Tensor dy = backward.activations(flow.y.rows, flow.y.columns);
    head_train(backward,
               {.table = layers_->target_embedding.table, .x = flow.y, .labels = batch.labels, .smoothing = smoothing},
               losses, dy);
    Tensor dmemory;
    if (layers_->encoder) {
        dmemory = arena.allocate(DataType::kF32, flow.decoder.memory.rows.rows, flow.decoder.memory.rows.columns);
        backend.zero(dmemory);
    }
    decoder_backward(backward, *layers_, batch, flow, dy, dmemory, finished);
    if (layers_->encoder) encoder_backward(backward, *layers_, batch, flow, dmemory, finished);
    finished(layers_->table.entries().size());
}

void Transformer::evaluate(Backend& backend, Arena& arena, const DeviceBatch& batch, const Tensor& weights,
                           const Tensor& losses, float smoothing) const {
    const Arena::Scope scope(arena);
    const ForwardPass pass{.backend = backend,
                           .arena = arena,
                           .weights = ParameterViews(layers_->table, weights),
                           .mode = Mode::kEvaluate};
    const Flow flow = run_stacks(pass, *layers_, batch);
    head_evaluate(
        pass, {.table = layers_->target_embedding.table, .x = flow.y, .labels = batch.labels, .smoothing = smoothing},
        losses);
}

void Transformer::logits(Backend& backend, Arena& arena, const DeviceBatch& batch, const Tensor& weights,
                         const Tensor& logits) const {
    const Arena::Scope scope(arena);
    const ForwardPass pass{.backend = backend,
                           .arena = arena,
                           .weights = ParameterViews(layers_->table, weights),
                           .mode = Mode::kEvaluate};
    const Flow flow = run_stacks(pass, *layers_, batch);
    head_logits(backend, logits, flow.y, pass.weights[layers_->target_embedding.table]);
}

}  // namespace duologue
