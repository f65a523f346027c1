// Hash: FNV-1a of 64 bits, for naming contents and finding damage; it is no defence against people.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace duologue {

/// Fowler, Noll and Vo's hash 1a, 64 bits; `state` continues an earlier one.
[[nodiscard]] constexpr std::uint64_t fnv1a(std::string_view bytes, std::uint64_t state = 0xcbf29ce484222325ULL) {
    for (const char byte : bytes) {
        state ^= static_cast<unsigned char>(byte);
        state *= 0x100000001b3ULL;
    }
    return state;
}

/// 16 hex digits.
[[nodiscard]] std::string hash_text(std::uint64_t hash);

}  // namespace duologue
