// Packing with 8 x 8 transpositions in registers.
#include "backend/cpu/gemm_pack.h"

#include <algorithm>
#include <cstring>

#include "duologue/core/rounding.h"

namespace duologue::cpu {

namespace {

// Inlined, so that the block stays in registers.
[[gnu::always_inline]] inline void transpose(F8 (&rows)[kLanes]) {
    __m256 pairs[8];
    for (int i = 0; i < 4; ++i) {
        pairs[2 * i] = _mm256_unpacklo_ps(rows[2 * i].v, rows[2 * i + 1].v);
        pairs[2 * i + 1] = _mm256_unpackhi_ps(rows[2 * i].v, rows[2 * i + 1].v);
    }
    __m256 quads[8];
    for (int i = 0; i < 2; ++i) {
        const __m256* p = pairs + 4 * i;
        quads[4 * i] = _mm256_shuffle_ps(p[0], p[2], 0x44);
        quads[4 * i + 1] = _mm256_shuffle_ps(p[0], p[2], 0xEE);
        quads[4 * i + 2] = _mm256_shuffle_ps(p[1], p[3], 0x44);
        quads[4 * i + 3] = _mm256_shuffle_ps(p[1], p[3], 0xEE);
    }
    for (int i = 0; i < 4; ++i) {
        rows[i].v = _mm256_permute2f128_ps(quads[i], quads[i + 4], 0x20);
        rows[i + 4].v = _mm256_permute2f128_ps(quads[i], quads[i + 4], 0x31);
    }
}

/// A word is one element, as f32.
template <class T>
struct Single {
    static constexpr std::int64_t kElements = 1;

    /// Eight words along the depth, of which `depth` elements exist.
    static F8 along_depth(const T* p, std::int64_t depth) {
        return depth >= kLanes ? load(p) : load(p, FirstLanes{depth});
    }
    /// One word of each of the adjacent elements across.
    template <class Lanes>
    static F8 across(const T* p, std::int64_t /*stride*/, std::int64_t /*depth*/, Lanes lanes) {
        return load(p, lanes);
    }
};

/// bf16 bit patterns, one in the lower half of each 32-bit lane.
__m256i halves(F8 x) { return _mm256_srli_epi32(rounded_upper_halves(x), 16); }
template <class Lanes>
__m256i halves(const float* p, Lanes lanes) {
    return halves(load(p, lanes));
}
__m256i halves(const Bfloat16* p, AllLanes) {
    return _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
__m256i halves(const Bfloat16* p, FirstLanes lanes) {
    Bfloat16 whole[kLanes] = {};
    std::memcpy(whole, p, static_cast<std::size_t>(lanes.count) * sizeof(Bfloat16));
    return halves(whole, AllLanes{});
}

F8 sixteen(const Bfloat16* p) { return {_mm256_loadu_ps(reinterpret_cast<const float*>(p))}; }
F8 sixteen(const float* p) {
    const __m256i packed = _mm256_packus_epi32(halves(p, AllLanes{}), halves(p + kLanes, AllLanes{}));
    return {_mm256_castsi256_ps(_mm256_permute4x64_epi64(packed, 0xD8))};
}

/// A word is two elements of consecutive k, as bf16.
template <class T>
struct Pair {
    static constexpr std::int64_t kElements = 2;

    static F8 along_depth(const T* p, std::int64_t depth) {
        if (depth >= 2 * kLanes) return sixteen(p);
        T whole[2 * kLanes] = {};
        std::memcpy(whole, p, static_cast<std::size_t>(depth) * sizeof(T));
        return sixteen(whole);
    }
    template <class Lanes>
    static F8 across(const T* p, std::int64_t stride, std::int64_t depth, Lanes lanes) {
        const __m256i low = halves(p, lanes);
        if (depth < kElements) return {_mm256_castsi256_ps(low)};
        return {_mm256_castsi256_ps(_mm256_or_si256(low, _mm256_slli_epi32(halves(p + stride, lanes), 16)))};
    }
};

/// A strip: a part of a panel, at most eight elements across.
struct Strip {
    float* out;
    std::int64_t width;    // of its panel
    std::int64_t present;  // elements that exist, 0..8; the others become 0
};

// A strip is stored 8 words wide even where its panel ends after 6: the next word, or the next panel, overwrites the
// rest. One of 4 stands beside another strip of its panel, whose words it must not touch.
enum class Stored : std::uint8_t { kEight, kFour };

template <Stored kStored>
void store_words(float* out, F8 words) {
    if constexpr (kStored == Stored::kFour) {
        _mm_storeu_ps(out, _mm256_castps256_ps128(words.v));
    } else {
        store(out, words);
    }
}

template <class Word, Stored kStored, class T>
void pack_along_depth(const Strip& strip, const T* data, std::int64_t stride, std::int64_t depth) {
    const std::int64_t words = divided_up(depth, Word::kElements);
    for (std::int64_t w = 0; w < words; w += kLanes) {
        const std::int64_t k = w * Word::kElements;
        F8 block[kLanes];
        for (std::int64_t i = 0; i < kLanes; ++i) {
            block[i] = i < strip.present ? Word::along_depth(data + i * stride + k, depth - k) : zeros();
        }
        transpose(block);
        const std::int64_t count = std::min(kLanes, words - w);
        for (std::int64_t i = 0; i < count; ++i) store_words<kStored>(strip.out + (w + i) * strip.width, block[i]);
    }
}

template <class Word, Stored kStored, class T, class Lanes>
void pack_across(const Strip& strip, const T* data, std::int64_t stride, std::int64_t depth, Lanes lanes) {
    float* out = strip.out;
    for (std::int64_t k = 0; k < depth; k += Word::kElements, out += strip.width) {
        store_words<kStored>(out, Word::across(data + k * stride, stride, depth - k, lanes));
    }
}

template <class Word, Stored kStored, class T>
void pack_strip(const Strip& strip, const PackSource<T>& source, std::int64_t first) {
    if (source.adjacent == Adjacent::kDepth) {
        pack_along_depth<Word, kStored>(strip, source.data + first * source.stride, source.stride, source.depth);
    } else if (first + kLanes <= source.across) {  // reading 8 where the panel has fewer is fine inside the row
        pack_across<Word, kStored>(strip, source.data + first, source.stride, source.depth, AllLanes{});
    } else {
        pack_across<Word, kStored>(strip, source.data + first, source.stride, source.depth,
                                   FirstLanes{std::max<std::int64_t>(source.across - first, 0)});
    }
}

template <class Word, class T>
void pack_words(float* out, const PackSource<T>& source, std::int64_t width) {
    const std::int64_t words = divided_up(source.depth, Word::kElements);
    for (std::int64_t begin = 0; begin < source.across; begin += width) {
        float* panel = out + begin * words;
        for (std::int64_t at = 0; at < width; at += kLanes) {
            const std::int64_t first = begin + at;
            const std::int64_t in_panel = std::min(kLanes, width - at);
            const Strip strip{.out = panel + at,
                              .width = width,
                              .present = std::clamp<std::int64_t>(source.across - first, 0, in_panel)};
            if (in_panel == 4) {
                pack_strip<Word, Stored::kFour>(strip, source, first);
            } else {
                pack_strip<Word, Stored::kEight>(strip, source, first);
            }
        }
    }
}

}  // namespace

template <class T>
void pack_panels(float* out, const PackSource<T>& source, const PanelShape& shape) {
    if (shape.word == PanelWord::kBf16Pair) {
        pack_words<Pair<T>>(out, source, shape.width);
    } else {
        pack_words<Single<T>>(out, source, shape.width);
    }
}

template void pack_panels(float*, const PackSource<float>&, const PanelShape&);
template void pack_panels(float*, const PackSource<Bfloat16>&, const PanelShape&);

}  // namespace duologue::cpu
