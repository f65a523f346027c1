// The back end a command runs on, and how fast it multiplies.
#include <sched.h>
#include <unistd.h>

#include <algorithm>

#include "commands/program.h"
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

std::unique_ptr<Backend> open_device(const DeviceConfig& config, int local_ranks) {
    require(config.kind != DeviceKind::kCuda, ErrorCode::kDevice,
            "device.kind = cuda, but this program was built without CUDA; use cpu, or build with -DDUOLOGUE_CUDA=ON");
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
