// UTF-8 decoding that refuses everything the Unicode standard calls ill-formed.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace duologue {

/// One code point and the bytes it takes; `bytes` is 0 where no valid sequence begins.
struct CodePoint {
    std::int32_t value = 0;
    std::size_t bytes = 0;
};

/// Decodes the sequence that a non-empty `text` begins with (Unicode standard, table 3-7: no overlong forms, no
/// surrogates).
[[nodiscard]] inline CodePoint decode_utf8(std::string_view text) {
    const auto lead = static_cast<unsigned char>(text[0]);
    if (lead < 0x80) return {lead, 1};
    const std::size_t bytes = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead < 0xc2 || lead > 0xf4 || text.size() < bytes) return {};
    std::int32_t value = lead & (0x7f >> bytes);
    for (std::size_t i = 1; i < bytes; ++i) {
        const auto trail = static_cast<unsigned char>(text[i]);
        if ((trail & 0xc0) != 0x80) return {};
        value = (value << 6) | (trail & 0x3f);
    }
    constexpr std::array<std::int32_t, 5> kSmallest{0, 0, 0x80, 0x800, 0x10000};
    const bool surrogate = value >= 0xd800 && value <= 0xdfff;
    if (value < kSmallest[bytes] || value > 0x10ffff || surrogate) return {};
    return {value, bytes};
}

[[nodiscard]] inline bool is_ascii(std::string_view text) {
    std::uint64_t seen = 0;
    while (text.size() >= sizeof seen) {
        std::uint64_t eight = 0;
        std::memcpy(&eight, text.data(), sizeof eight);
        seen |= eight;
        text.remove_prefix(sizeof eight);
    }
    for (const char c : text) seen |= static_cast<unsigned char>(c);
    return (seen & 0x8080808080808080ULL) == 0;
}

/// Byte offset of the first ill-formed sequence, or -1.
[[nodiscard]] inline std::int64_t first_invalid_utf8(std::string_view text) {
    if (is_ascii(text)) return -1;
    for (std::size_t i = 0; i < text.size();) {
        const CodePoint point = decode_utf8(text.substr(i));
        if (point.bytes == 0) return static_cast<std::int64_t>(i);
        i += point.bytes;
    }
    return -1;
}

}  // namespace duologue
