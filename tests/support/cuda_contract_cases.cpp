// The contract suite's cases on a GPU, with our own attention and with cuDNN's; deterministic, so that runs agree in
// every bit.
#include "duologue/backend/cuda_backend.h"
#include "support/contract.h"

namespace duologue {

std::vector<ContractCase> contract_cases() {
    const auto with = [](AttentionChoice attention) {
        return [attention](int /*threads*/) {
            return make_cuda_backend({.attention = attention, .deterministic = Deterministic::kYes});
        };
    };
    return {{.name = "cuda", .make = with(AttentionChoice::kAuto), .type = DataType::kF32},
            {.name = "cuda_own_attention", .make = with(AttentionChoice::kOwn), .type = DataType::kBf16},
            {.name = "cuda_cudnn", .make = with(AttentionChoice::kCudnn), .type = DataType::kBf16, .head_multiple = 8}};
}

}  // namespace duologue
