// The back end that a command runs on, and the communicator that fits it.
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <sstream>
#include <utility>

#include "commands/program.h"
#include "duologue/backend/cuda_backend.h"
#include "duologue/comm/nccl_communicator.h"
#include "duologue/core/device_module.h"
#include "duologue/core/error.h"
#include "duologue/core/log.h"
#include "duologue/train/device_choice.h"
#include "duologue/train/staged_communicator.h"

namespace duologue {

Config effective_config(const Program& program, const std::string& config_path) {
    Config config;
    if (!config_path.empty()) read_config_file(config, config_path);
    apply_overrides(config, program.overrides);
    validate(config);
    require_data_folder("data.path", config.data.path);
    const auto is_epochs = [](const Override& given) { return given.key == "train.epochs"; };
    const bool asked = std::any_of(program.overrides.begin(), program.overrides.end(), is_epochs);
    require(
        !asked || config.train.steps == 0, ErrorCode::kConfiguration,
        "--train.epochs={} would have no effect: train.steps is {}, and steps go before epochs; add --train.steps=0",
        config.train.epochs, config.train.steps);
    return config;
}

namespace {

std::unique_ptr<Backend> open_cpu(const DeviceConfig& config, int local_ranks) {
    if (config.threads > 0) return make_cpu_backend(config.threads);
    // A rank that its launcher has bound to some cores may use these; one that is not bound shares the host's.
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    const bool known = sched_getaffinity(0, sizeof allowed, &allowed) == 0;
    const auto online = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
    const int mine = std::max(1, online / local_ranks);
    return make_cpu_backend(known ? std::min(mine, CPU_COUNT(&allowed)) : mine);
}

CudaOptions cuda_options(const DeviceConfig& config, int gpu) {
    CudaOptions options{.device = gpu};
    switch (config.attention) {
        case AttentionKind::kAuto:
            options.attention = AttentionChoice::kAuto;
            break;
        case AttentionKind::kOwn:
            options.attention = AttentionChoice::kOwn;
            break;
        case AttentionKind::kCudnn:
            options.attention = AttentionChoice::kCudnn;
            break;
    }
    if (config.deterministic) options.deterministic = Deterministic::kYes;
    if (!config.graphs) options.graphs = Graphs::kNo;
    return options;
}

// With kAuto, a build without a CUDA back end and a machine without a driver have none; where libraries are missing it
// says so.
std::vector<CudaDevice> visible_gpus(const DeviceConfig& config, const Log& log) {
    if (config.kind == DeviceKind::kCpu) return {};
    if (config.kind == DeviceKind::kAuto && !(has_device_module() && has_device_driver())) return {};
    try {
        return cuda_devices();
    } catch (const Error& error) {
        if (config.kind == DeviceKind::kCuda) fail(error.code(), "device.kind = cuda: {}", error.what());
        log.info("device.kind=auto finds no GPU: {}", error.what());
        return {};
    }
}

std::string to_text(const std::vector<CudaDevice>& gpus) {
    std::string text;
    for (const CudaDevice& gpu : gpus) text += fmt::format("{} {} ", gpu.index, gpu.id);
    return text;
}

std::vector<CudaDevice> from_text(const std::string& text) {
    std::vector<CudaDevice> gpus;
    std::istringstream words(text);
    for (CudaDevice gpu; words >> gpu.index >> gpu.id;) gpus.push_back(gpu);
    return gpus;
}

std::vector<RankView> views_of_all(const DeviceConfig& config, World& world) {
    constexpr const char* kWhat = "the comparison of the hosts' GPUs";
    const std::vector<std::string> hosts = world.gather_all(world.host(), kWhat);
    const std::vector<std::string> gpus =
        world.gather_all(to_text(visible_gpus(config, Log(world.rank(), world.size()))), kWhat);
    std::vector<RankView> views;
    for (std::size_t rank = 0; rank < hosts.size(); ++rank) {
        views.push_back({.host = hosts[rank], .gpus = from_text(gpus[rank])});
    }
    return views;
}

RankDevice on_cpu(const DeviceConfig& device, CommunicatorKind kind, World& world) {
    require(
        kind != CommunicatorKind::kNccl, ErrorCode::kConfiguration,
        "distributed.communicator = nccl sums on GPUs, but the ranks compute on CPUs; use mpi, or device.kind=cuda");
    return {.backend = open_cpu(device, world.local_size()),
            .communicator = world.size() == 1 ? make_single_communicator() : make_mpi_communicator(world)};
}

RankDevice on_gpu(const CudaOptions& options, const DistributedConfig& distributed, World& world) {
    std::unique_ptr<CudaBackend> backend = make_cuda_backend(options);
    const DeviceStream compute = backend->compute_stream();
    RankDevice rank{.backend = std::move(backend), .communicator = nullptr};
    if (world.size() == 1 && distributed.communicator != CommunicatorKind::kNccl) {
        rank.communicator = make_single_communicator();
    } else if (distributed.communicator == CommunicatorKind::kMpi) {
        rank.communicator = make_staged_communicator(*rank.backend, make_mpi_communicator(world));
    } else {
        rank.communicator = make_nccl_communicator(
            world, {.compute = compute,
                    .ranks_per_device = distributed.share_device ? RanksPerDevice::kSeveral : RanksPerDevice::kOne});
    }
    return rank;
}

}  // namespace

std::unique_ptr<Backend> open_device(const DeviceConfig& config, int local_ranks) {
    const DeviceChoice choice =
        choose_device(config, {}, {{.host = "this machine", .gpus = visible_gpus(config, Log())}}, 0);
    if (choice.kind == DeviceKind::kCpu) return open_cpu(config, local_ranks);
    std::unique_ptr<Backend> gpu = make_cuda_backend(cuda_options(config, choice.gpu));
    if (config.kind == DeviceKind::kAuto) Log().info("device.kind=auto: {}", gpu->description());
    return gpu;
}

RankDevice open_rank_device(const DeviceConfig& device, const DistributedConfig& distributed, World& world) {
    const DeviceChoice choice = choose_device(device, distributed, views_of_all(device, world), world.rank());
    if (choice.kind == DeviceKind::kCpu) return on_cpu(device, distributed.communicator, world);
    return on_gpu(cuda_options(device, choice.gpu), distributed, world);
}

}  // namespace duologue
