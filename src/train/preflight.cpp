// One exchange per fact; the first fact that differs is reported, by every rank in the same words.
#include "duologue/train/preflight.h"

namespace duologue {

namespace {

/// "V on rank R (HOST)" for the first rank of every host that differs from rank 0.
std::string differences(const std::vector<std::string>& values, const std::vector<std::string>& hosts) {
    std::string text;
    std::string last_host;
    for (std::size_t rank = 1; rank < values.size(); ++rank) {
        if (values[rank] == values[0] || hosts[rank] == last_host) continue;
        last_host = hosts[rank];
        text += fmt::format("{}{} on rank {} ({})", text.empty() ? "" : ", ", values[rank], rank, hosts[rank]);
    }
    return text;
}

}  // namespace

void require_same_everywhere(World& world, const std::vector<Fact>& facts) {
    constexpr const char* kWhat = "the comparison of program, configuration and data";
    const std::vector<std::string> hosts = world.gather_all(world.host(), kWhat);
    for (const Fact& fact : facts) {
        const std::vector<std::string> values = world.gather_all(fact.value, kWhat);
        const std::string differing = differences(values, hosts);
        require(differing.empty(), fact.code,
                "{} is {} on rank 0 ({}) but {}; give every host the same program, configuration and data", fact.name,
                values[0], hosts[0], differing);
    }
}

}  // namespace duologue
