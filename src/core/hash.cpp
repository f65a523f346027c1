// Hashes as text.
#include "duologue/core/hash.h"

#include <fmt/format.h>

namespace duologue {

std::string hash_text(std::uint64_t hash) { return fmt::format("{:016x}", hash); }

}  // namespace duologue
