// Counter-based random numbers (Philox 4x32-10, Salmon et al. 2011): every number is a pure function of key and index.
#pragma once

#include <array>
#include <cstdint>

namespace duologue {

/// Four random words for a 64-bit key and a 128-bit counter given as two words. Salmon et al., "Parallel random
/// numbers: as easy as 1, 2, 3" (SC11), Philox4x32 with 10 rounds.
[[nodiscard]] constexpr std::array<std::uint32_t, 4> philox(std::uint64_t key, std::uint64_t low, std::uint64_t high) {
    auto k0 = static_cast<std::uint32_t>(key);
    auto k1 = static_cast<std::uint32_t>(key >> 32);
    auto c0 = static_cast<std::uint32_t>(low);
    auto c1 = static_cast<std::uint32_t>(low >> 32);
    auto c2 = static_cast<std::uint32_t>(high);
    auto c3 = static_cast<std::uint32_t>(high >> 32);
    for (int round = 0; round < 10; ++round) {
        const std::uint64_t p0 = std::uint64_t{0xD2511F53U} * c0;
        const std::uint64_t p1 = std::uint64_t{0xCD9E8D57U} * c2;
        c0 = static_cast<std::uint32_t>(p1 >> 32) ^ c1 ^ k0;
        c1 = static_cast<std::uint32_t>(p1);
        c2 = static_cast<std::uint32_t>(p0 >> 32) ^ c3 ^ k1;
        c3 = static_cast<std::uint32_t>(p0);
        k0 += 0x9E3779B9U;
        k1 += 0xBB67AE85U;
    }
    return {c0, c1, c2, c3};
}

/// Joins words into one well-mixed 64-bit key (splitmix64 finaliser, Steele et al. 2014).
[[nodiscard]] constexpr std::uint64_t mix_key(std::uint64_t a, std::uint64_t b) {
    std::uint64_t x = a + 0x9E3779B97F4A7C15ULL * (b + 1);
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
    return x ^ (x >> 31);
}

/// Dropout draws 16 bits per element: element i takes the (i mod 8)-th 16-bit half-word, low half first, of
/// philox(key, i / 8, 0) and is dropped when it is below this threshold.
[[nodiscard]] constexpr std::uint32_t dropout_threshold(float probability) {
    return static_cast<std::uint32_t>(probability * 65536.0F + 0.5F);
}
/// The factor on kept elements: exact for the probability that the threshold really gives.
[[nodiscard]] constexpr float dropout_scale(float probability) {
    return 65536.0F / (65536.0F - static_cast<float>(dropout_threshold(probability)));
}
/// Whether element `index` is kept: the specification that every back end's faster code has to agree with.
[[nodiscard]] constexpr bool dropout_keeps(std::uint64_t key, std::uint64_t index, std::uint32_t threshold) {
    const std::uint32_t word = philox(key, index / 8, 0)[(index % 8) / 2];
    const std::uint32_t half = (index % 2 == 0) ? (word & 0xffffU) : (word >> 16);
    return half >= threshold;
}

/// A sequence of numbers from one key, for sampling, shuffling and initialisation. Cheap to create and to position.
class RandomStream {
   public:
    explicit RandomStream(std::uint64_t key, std::uint64_t position = 0) : key_(key), position_(position) {}

    [[nodiscard]] std::uint64_t next_u64() {
        const auto words = philox(key_, position_++, 1);
        return (static_cast<std::uint64_t>(words[1]) << 32) | words[0];
    }
    /// Uniform in [0, 1), 53 bits.
    [[nodiscard]] double uniform() { return static_cast<double>(next_u64() >> 11) * 0x1.0p-53; }
    /// Uniform in [0, bound), bound > 0; rejection keeps it exact.
    [[nodiscard]] std::uint64_t below(std::uint64_t bound);
    /// Standard normal (Box-Muller).
    [[nodiscard]] double normal();
    [[nodiscard]] std::uint64_t position() const { return position_; }

   private:
    std::uint64_t key_;
    std::uint64_t position_;
};

}  // namespace duologue
