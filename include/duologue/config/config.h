// Every option of the trainer, with its default. src/config/schema.h declares keys, help and ranges.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace duologue {

enum class ModelKind : std::uint8_t { kEncoderDecoder, kDecoderOnly };
enum class NormPlacement : std::uint8_t { kPost, kPre };
enum class Activation : std::uint8_t { kRelu, kGelu };
enum class Precision : std::uint8_t { kF32, kBf16 };
enum class Schedule : std::uint8_t { kPaper, kCosine, kConstant };
enum class DeviceKind : std::uint8_t { kAuto, kCpu, kCuda };
enum class AttentionKind : std::uint8_t { kAuto, kOwn, kCudnn };
enum class CommunicatorKind : std::uint8_t { kAuto, kMpi, kNccl };
enum class Resume : std::uint8_t { kAuto, kNever };
enum class ChatAtEnd : std::uint8_t { kAuto, kNever };

struct DataConfig {
    std::string path;                        ///< folder written by duologue-preprocess
    std::int64_t max_context_tokens = 128;   ///< source: the latest whole turns that fit
    std::int64_t max_reply_tokens = 40;      ///< target rows (words + <eos>) of one reply
    std::int64_t micro_batch_tokens = 4096;  ///< source rows of a micro-batch, at most
    std::int64_t micro_batch_reply_tokens =
        0;                           ///< target rows of a micro-batch, at most; 0: in proportion to the two above
    std::int64_t window_shards = 4;  ///< shards held in memory and shuffled together
};

struct ModelConfig {
    ModelKind kind = ModelKind::kEncoderDecoder;
    std::int64_t width = 256;    ///< C
    std::int64_t heads = 4;      ///< H
    std::int64_t hidden = 1024;  ///< F
    std::int64_t encoder_layers = 3;
    std::int64_t decoder_layers = 3;
    NormPlacement norm = NormPlacement::kPost;
    Activation activation = Activation::kRelu;
    double dropout = 0.1;            ///< on embeddings and on every residual branch
    double attention_dropout = 0.0;  ///< on attention probabilities
};

struct TrainConfig {
    std::int64_t epochs = 10;
    std::int64_t steps = 0;                   ///< stop after so many steps; 0: by epochs
    std::int64_t micro_batches_per_step = 4;  ///< over all ranks
    Precision precision = Precision::kBf16;
    Schedule schedule = Schedule::kPaper;
    double learning_rate = 0.0;  ///< peak; 0, with kPaper only: the paper's C^-0.5 warmup^-0.5
    std::int64_t warmup_steps = 4000;
    double beta1 = 0.9;
    double beta2 = 0.98;
    double epsilon = 1e-9;
    double weight_decay = 0.0;
    double clip_norm = 1.0;  ///< 0: none
    double label_smoothing = 0.1;
    std::uint64_t seed = 1;
    std::int64_t validation_interval_steps = 500;  ///< 0: only at the end of an epoch
    std::int64_t max_skipped_steps = 10;           ///< consecutive steps with a loss or gradient that is not finite
    std::int64_t log_interval_steps = 10;
    std::string stop_file;  ///< when a file of this name appears on any host, the run saves and ends; "": none
};

struct CheckpointConfig {
    std::int64_t interval_steps = 500;  ///< 0: only at the end
    std::int64_t keep_last = 3;
    Resume resume = Resume::kAuto;
};

struct OutputConfig {
    std::string path = "output";
};

struct DeviceConfig {
    DeviceKind kind = DeviceKind::kAuto;
    int threads = 0;                                 ///< per rank; 0: the cores of this host divided by its ranks
    AttentionKind attention = AttentionKind::kAuto;  ///< on a GPU
    bool deterministic = false;                      ///< on a GPU; the CPU always is
    bool graphs = true;                              ///< on a GPU
};

struct DistributedConfig {
    CommunicatorKind communicator = CommunicatorKind::kAuto;
    double timeout_seconds = 60.0;
    std::int64_t bucket_bytes = 4 << 20;  ///< gradients are reduced in ranges of at least this size
    bool shard_optimizer = false;         ///< each rank keeps its part of master values and moments only
    bool share_device = false;            ///< ranks of a host may share a GPU
};

struct ChatConfig {
    ChatAtEnd at_end = ChatAtEnd::kAuto;
    double temperature = 0.8;  ///< 0: greedy
    std::int64_t top_k = 0;    ///< 0: all words
    double top_p = 1.0;
    double repetition_penalty = 1.0;
    std::uint64_t seed = 1;
    std::string prompts;  ///< file with one prompt a line, answered at the end of training instead of a terminal's
};

struct Config {
    DataConfig data;
    ModelConfig model;
    TrainConfig train;
    CheckpointConfig checkpoint;
    OutputConfig output;
    DeviceConfig device;
    DistributedConfig distributed;
    ChatConfig chat;
};

/// Sets the options named in the JSON `text`: nested objects and dotted keys ("train.epochs") may be mixed, none may
/// stand twice. kConfiguration, naming `source`, key, value and what was expected; an unknown key is answered with the
/// nearest known one.
void read_config(Config& config, std::string_view text, const std::string& source);
/// The same from a file; kInputOutput where it cannot be read.
void read_config_file(Config& config, const std::string& path);
/// Sets one option from text, for example "train.epochs", "20". A wrong key or value is returned as a sentence and
/// changes nothing; "" where the option was set.
[[nodiscard]] std::string try_option(Config& config, std::string_view key, std::string_view value);

/// An option as the command line names it.
struct Override {
    std::string key;
    std::string value;
};

/// Takes every `--section.key=value` and `--section.key value` out of `arguments`. kConfiguration where a value is
/// missing.
[[nodiscard]] std::vector<Override> take_overrides(std::vector<std::string>& arguments);
/// Sets each in turn.
void apply_overrides(Config& config, const std::vector<Override>& overrides);

/// Checks the rules between options (each option's own range is checked when it is set); kConfiguration.
void validate(const Config& config);

/// All options as nested JSON, with an end of line; read_config() gives the same Config back.
[[nodiscard]] std::string print_config(const Config& config);

/// What a person is told about an option.
struct OptionHelp {
    std::string key;
    std::string type;           ///< INTEGER, NUMBER, FILE, DIR, or the choices as a|b|c
    std::string range;          ///< of numbers, for example "0 to 1"
    std::string expected;       ///< the same as a sentence says it: "an integer from 0 to 1", "bf16 or f32"
    std::string text;           ///< what it is for
    std::string default_value;  ///< its value where none is given; "": none
};
/// Every option, in the order in which they are declared.
[[nodiscard]] std::vector<OptionHelp> option_help();

}  // namespace duologue
