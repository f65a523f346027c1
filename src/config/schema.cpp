// The list of all options.
#include "schema.h"

namespace duologue {

namespace {

using Options = std::vector<Option>;

Options data_options() {
    constexpr auto kSection = &Config::data;
    return {
        option("data.path", kSection, &DataConfig::path, "DIR", "folder written by duologue-preprocess"),
        option("data.max_context_tokens", kSection, &DataConfig::max_context_tokens, between(2, 65536),
               "source: the latest whole turns that fit"),
        option("data.max_reply_tokens", kSection, &DataConfig::max_reply_tokens, between(2, 65536),
               "longest reply, its end included"),
        option("data.micro_batch_tokens", kSection, &DataConfig::micro_batch_tokens, between(1, 1 << 24),
               "source tokens of a micro-batch, at most"),
        option("data.micro_batch_reply_tokens", kSection, &DataConfig::micro_batch_reply_tokens, between(0, 1 << 24),
               "reply tokens of a micro-batch, at most; 0: in proportion"),
        option("data.window_shards", kSection, &DataConfig::window_shards, between(1, 4096),
               "shards held in memory and shuffled together"),
    };
}

Options model_options() {
    constexpr auto kSection = &Config::model;
    return {
        option("model.kind", kSection, &ModelConfig::kind,
               Choices<ModelKind>{{"encoder_decoder", ModelKind::kEncoderDecoder},
                                  {"decoder_only", ModelKind::kDecoderOnly}},
               "architecture"),
        option("model.width", kSection, &ModelConfig::width, between(2, 65536), "channels (C)"),
        option("model.heads", kSection, &ModelConfig::heads, between(1, 1024), "attention heads (H)"),
        option("model.hidden", kSection, &ModelConfig::hidden, between(1, 1 << 20), "feed-forward width (F)"),
        option("model.encoder_layers", kSection, &ModelConfig::encoder_layers, between(1, 1024), "blocks"),
        option("model.decoder_layers", kSection, &ModelConfig::decoder_layers, between(1, 1024), "blocks"),
        option("model.norm", kSection, &ModelConfig::norm,
               Choices<NormPlacement>{{"post", NormPlacement::kPost}, {"pre", NormPlacement::kPre}},
               "layer norm after (the paper) or before each part"),
        option("model.activation", kSection, &ModelConfig::activation,
               Choices<Activation>{{"relu", Activation::kRelu}, {"gelu", Activation::kGelu}}, "of the feed-forward"),
        option("model.dropout", kSection, &ModelConfig::dropout, between(0, 0.9),
               "on embeddings and residual branches"),
        option("model.attention_dropout", kSection, &ModelConfig::attention_dropout, between(0, 0.9),
               "on attention probabilities"),
    };
}

Options optimizer_options() {
    constexpr auto kSection = &Config::train;
    return {
        option("train.schedule", kSection, &TrainConfig::schedule,
               Choices<Schedule>{
                   {"paper", Schedule::kPaper}, {"cosine", Schedule::kCosine}, {"constant", Schedule::kConstant}},
               "of the learning rate, after the warm-up"),
        option("train.learning_rate", kSection, &TrainConfig::learning_rate, between(0, 10),
               "peak; 0, with the schedule paper only: C^-0.5 warmup^-0.5"),
        option("train.warmup_steps", kSection, &TrainConfig::warmup_steps, between(1, 1e12),
               "linear rise at the start"),
        option("train.beta1", kSection, &TrainConfig::beta1, between(0, 0.999999), "Adam"),
        option("train.beta2", kSection, &TrainConfig::beta2, between(0, 0.999999), "Adam"),
        option("train.epsilon", kSection, &TrainConfig::epsilon, between(1e-12, 1), "Adam"),
        option("train.weight_decay", kSection, &TrainConfig::weight_decay, between(0, 10), "decoupled"),
        option("train.clip_norm", kSection, &TrainConfig::clip_norm, between(0, 1e6), "global gradient norm; 0: none"),
        option("train.label_smoothing", kSection, &TrainConfig::label_smoothing, between(0, 0.9), "of the loss"),
    };
}

Options train_options() {
    constexpr auto kSection = &Config::train;
    Options options{
        option("train.epochs", kSection, &TrainConfig::epochs, between(0, 1e9), "passes over the data"),
        option("train.steps", kSection, &TrainConfig::steps, between(0, 1e12), "stop after so many; 0: by epochs"),
        option("train.micro_batches_per_step", kSection, &TrainConfig::micro_batches_per_step, between(1, 1 << 20),
               "over all ranks"),
        option("train.precision", kSection, &TrainConfig::precision,
               Choices<Precision>{{"bf16", Precision::kBf16}, {"f32", Precision::kF32}}, "of activations and weights"),
    };
    const Options tail{
        option("train.seed", kSection, &TrainConfig::seed, at_least(0), "of initial values, order and dropout"),
        option("train.validation_interval_steps", kSection, &TrainConfig::validation_interval_steps, between(0, 1e12),
               "0: only at the end of an epoch"),
        option("train.max_skipped_steps", kSection, &TrainConfig::max_skipped_steps, between(0, 1e9),
               "consecutive steps that are not finite before the run ends"),
        option("train.log_interval_steps", kSection, &TrainConfig::log_interval_steps, between(1, 1e9),
               "steps between progress lines"),
        option("train.stop_file", kSection, &TrainConfig::stop_file, "FILE",
               "when a file of this name appears on any host, the run saves and ends"),
    };
    for (const Options& part : {optimizer_options(), tail}) options.insert(options.end(), part.begin(), part.end());
    return options;
}

Options run_options() {
    return {
        option("checkpoint.interval_steps", &Config::checkpoint, &CheckpointConfig::interval_steps, between(0, 1e12),
               "0: only at the end"),
        option("checkpoint.keep_last", &Config::checkpoint, &CheckpointConfig::keep_last, between(1, 1e6),
               "older ones are removed, the best by validation is kept"),
        option("checkpoint.resume", &Config::checkpoint, &CheckpointConfig::resume,
               Choices<Resume>{{"auto", Resume::kAuto}, {"never", Resume::kNever}},
               "go on from the newest valid checkpoint"),
        option("output.path", &Config::output, &OutputConfig::path, "DIR", "folder for checkpoints, model and metrics"),
        option("device.kind", &Config::device, &DeviceConfig::kind,
               Choices<DeviceKind>{{"auto", DeviceKind::kAuto}, {"cpu", DeviceKind::kCpu}, {"cuda", DeviceKind::kCuda}},
               "what computes"),
        option("device.threads", &Config::device, &DeviceConfig::threads, between(0, 4096),
               "per rank; 0: the cores of this host divided by its ranks"),
        option("device.attention", &Config::device, &DeviceConfig::attention,
               Choices<AttentionKind>{
                   {"auto", AttentionKind::kAuto}, {"own", AttentionKind::kOwn}, {"cudnn", AttentionKind::kCudnn}},
               "on a GPU; auto: own for f32, the faster of both for bf16"),
        option("device.deterministic", &Config::device, &DeviceConfig::deterministic,
               "on a GPU, the same bits in every run, slower; the CPU always gives them"),
        option("device.graphs", &Config::device, &DeviceConfig::graphs,
               "on a GPU, micro-batches of a size that came before are launched as CUDA graphs"),
        option(
            "distributed.communicator", &Config::distributed, &DistributedConfig::communicator,
            Choices<CommunicatorKind>{
                {"auto", CommunicatorKind::kAuto}, {"mpi", CommunicatorKind::kMpi}, {"nccl", CommunicatorKind::kNccl}},
            "what sums the gradients"),
        option("distributed.timeout_seconds", &Config::distributed, &DistributedConfig::timeout_seconds,
               between(0.1, 86400),
               "after this time a job with a rank that died or is frozen is gone; ranks wait for one another for this "
               "time less 10 s, or half of it"),
        option("distributed.bucket_bytes", &Config::distributed, &DistributedConfig::bucket_bytes,
               between(1024, 1LL << 40), "gradients are reduced in ranges of at least this size"),
        option("distributed.shard_optimizer", &Config::distributed, &DistributedConfig::shard_optimizer,
               "each rank keeps its part of master values and moments only (ZeRO stage 1)"),
        option("distributed.share_device", &Config::distributed, &DistributedConfig::share_device,
               "ranks of a host may share a GPU: for tests, slow"),
    };
}

Options chat_options() {
    constexpr auto kSection = &Config::chat;
    return {
        option("chat.at_end", kSection, &ChatConfig::at_end,
               Choices<ChatAtEnd>{{"auto", ChatAtEnd::kAuto}, {"never", ChatAtEnd::kNever}},
               "open the chat when training has ended"),
        option("chat.temperature", kSection, &ChatConfig::temperature, between(0, 100), "0: greedy"),
        option("chat.top_k", kSection, &ChatConfig::top_k, between(0, 1e9), "likeliest words to choose from; 0: all"),
        option("chat.top_p", kSection, &ChatConfig::top_p, between(0.000001, 1),
               "smallest set of words with this probability to choose from"),
        option("chat.repetition_penalty", kSection, &ChatConfig::repetition_penalty, between(1, 100),
               "on words already said in the reply; 1: none"),
        option("chat.seed", kSection, &ChatConfig::seed, at_least(0), "of the choice of words"),
        option("chat.prompts", kSection, &ChatConfig::prompts, "FILE",
               "file with one prompt a line, answered at the end"),
    };
}

}  // namespace

std::vector<Option> all_options() {
    Options all;
    for (const Options& part : {data_options(), model_options(), train_options(), run_options(), chat_options()}) {
        all.insert(all.end(), part.begin(), part.end());
    }
    return all;
}

}  // namespace duologue
