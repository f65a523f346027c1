// Rules between options.
#include "duologue/config/config.h"
#include "duologue/core/error.h"

namespace duologue {

namespace {

void validate_data(const DataConfig& data) {
    require(
        data.micro_batch_tokens >= data.max_context_tokens, ErrorCode::kConfiguration,
        "data.micro_batch_tokens = {} must hold one longest source: raise it to data.max_context_tokens = {} or more",
        data.micro_batch_tokens, data.max_context_tokens);
    require(
        data.micro_batch_reply_tokens == 0 || data.micro_batch_reply_tokens >= data.max_reply_tokens,
        ErrorCode::kConfiguration,
        "data.micro_batch_reply_tokens = {} must be 0 or hold one longest reply: data.max_reply_tokens = {} or more",
        data.micro_batch_reply_tokens, data.max_reply_tokens);
}

void validate_model(const ModelConfig& model) {
    require(model.width % model.heads == 0, ErrorCode::kConfiguration,
            "model.width = {} must be a multiple of model.heads = {}", model.width, model.heads);
    require(model.width % 2 == 0, ErrorCode::kConfiguration,
            "model.width = {} must be even: positions are half sines, half cosines", model.width);
    require(model.kind == ModelKind::kEncoderDecoder, ErrorCode::kConfiguration,
            "model.kind = decoder_only cannot be trained by this version; use encoder_decoder");
}

void validate_device(const Config& config) {
    if (config.device.attention != AttentionKind::kCudnn) return;
    require(config.device.kind != DeviceKind::kCpu, ErrorCode::kConfiguration,
            "device.attention = cudnn needs device.kind = cuda, but it is cpu; use auto");
    require(config.train.precision == Precision::kBf16, ErrorCode::kConfiguration,
            "device.attention = cudnn takes train.precision = bf16, but it is f32; use auto or own");
}

}  // namespace

void validate(const Config& config) {
    validate_data(config.data);
    validate_model(config.model);
    validate_device(config);
    require(config.train.epochs > 0 || config.train.steps > 0, ErrorCode::kConfiguration,
            "train.epochs and train.steps are both 0: say how long to train");
    require(
        config.train.schedule == Schedule::kPaper || config.train.learning_rate > 0, ErrorCode::kConfiguration,
        "train.schedule = {} needs train.learning_rate above 0, for example 0.0005; only paper has a peak of its own",
        config.train.schedule == Schedule::kCosine ? "cosine" : "constant");
    require(config.distributed.communicator != CommunicatorKind::kNccl || config.device.kind != DeviceKind::kCpu,
            ErrorCode::kConfiguration,
            "distributed.communicator = nccl needs device.kind = cuda, but it is cpu; use mpi");
}

}  // namespace duologue
