// The back end a command runs on, and how fast it multiplies.
#include <sched.h>
#include <unistd.h>

#include <algorithm>

#include "commands/program.h"
#include "duologue/backend/cuda_backend.h"
#include "duologue/core/error.h"

namespace duologue {

Config effective_config(const Program& program, const std::string& config_path) {
    Config config;
    if (!config_path.empty()) read_config_file(config, config_path);
    apply_overrides(config, program.overrides);
    validate(config);
    return config;
}

void require_sections(const Program& program, const std::vector<std::string>& sections) {
    for (const Override& given : program.overrides) {
        const std::string section = given.key.substr(0, given.key.find('.'));
        require(std::find(sections.begin(), sections.end(), section) != sections.end(), ErrorCode::kConfiguration,
                "command line: --{} has no effect on this command; it takes options of {}", given.key,
                fmt::join(sections, ", "));
    }
}

namespace {

CudaOptions cuda_options(const DeviceConfig& config) {
    CudaOptions options;
    if (config.attention == AttentionKind::kOwn) options.attention = AttentionChoice::kOwn;
    if (config.attention == AttentionKind::kCudnn) options.attention = AttentionChoice::kCudnn;
    if (config.deterministic == DeterministicMode::kYes) options.deterministic = Deterministic::kYes;
    return options;
}

}  // namespace

std::unique_ptr<Backend> open_device(const DeviceConfig& config, int local_ranks) {
    if (config.kind == DeviceKind::kCuda) {
        require(local_ranks == 1, ErrorCode::kDevice,
                "device.kind = cuda with {} ranks on this host: gradients are summed in host memory only; start one "
                "rank, or use device.kind=cpu",
                local_ranks);
        return make_cuda_backend(cuda_options(config));
    }
    if (config.threads > 0) return make_cpu_backend(config.threads);
    // A rank that its launcher has bound to some cores may use these; one that is not bound shares the host's.
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    const bool known = sched_getaffinity(0, sizeof allowed, &allowed) == 0;
    const auto online = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
    const int mine = std::max(1, online / local_ranks);
    return make_cpu_backend(known ? std::min(mine, CPU_COUNT(&allowed)) : mine);
}

}  // namespace duologue
