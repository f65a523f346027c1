// One exchange per fact; the first difference from rank 0 is reported, by every rank in the same words.
#include "duologue/train/preflight.h"

namespace duologue {

void require_same_everywhere(World& world, const std::vector<Fact>& facts) {
    const std::vector<std::string> hosts = world.gather_all(world.host());
    for (const Fact& fact : facts) {
        const std::vector<std::string> values = world.gather_all(fact.value);
        for (std::size_t rank = 1; rank < values.size(); ++rank) {
            require(values[rank] == values[0], fact.code,
                    "{} is {} on rank 0 ({}) but {} on rank {} ({}); give every host the same program, configuration "
                    "and data",
                    fact.name, values[0], hosts[0], values[rank], rank, hosts[rank]);
        }
    }
}

}  // namespace duologue
