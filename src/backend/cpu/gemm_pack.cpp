// Packing with 8 x 8 transpositions in registers.
#include "backend/cpu/gemm_pack.h"

#include <algorithm>

namespace duologue::cpu {

namespace {

void transpose(F8 (&rows)[kLanes]) {
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

/// out[k * width + i] for i in [0, 8): a strip of at most 8 rows whose elements are adjacent along the depth.
template <class T>
void pack_strip_along_depth(float* out, const T* data, std::int64_t stride, std::int64_t rows, std::int64_t depth,
                            std::int64_t width) {
    for_each_vector(depth, [&](std::int64_t k, auto lanes) {
        F8 block[kLanes];
        for (std::int64_t i = 0; i < kLanes; ++i) block[i] = i < rows ? load(data + i * stride + k, lanes) : zeros();
        transpose(block);
        const std::int64_t steps = std::min(kLanes, depth - k);
        for (std::int64_t i = 0; i < steps; ++i) store(out + (k + i) * width, block[i]);
    });
}

template <class T>
void pack_strip_across(float* out, const T* data, std::int64_t stride, std::int64_t columns, std::int64_t depth,
                       std::int64_t width) {
    if (columns >= kLanes) {
        for (std::int64_t k = 0; k < depth; ++k) store(out + k * width, load(data + k * stride));
    } else {
        for (std::int64_t k = 0; k < depth; ++k) store(out + k * width, load(data + k * stride, FirstLanes{columns}));
    }
}

}  // namespace

// A strip is stored 8 floats wide even where the panel has only 6: the next k, or the next panel, overwrites the rest.
template <class T>
void pack_panels(float* out, const PackSource<T>& source, std::int64_t width) {
    for (std::int64_t begin = 0; begin < source.across; begin += width) {
        float* panel = out + begin * source.depth;
        for (std::int64_t strip = 0; strip < width; strip += kLanes) {
            const std::int64_t first = begin + strip;
            const std::int64_t in_panel = std::min(kLanes, width - strip);
            const std::int64_t present = std::clamp<std::int64_t>(source.across - first, 0, in_panel);
            if (source.adjacent == Adjacent::kDepth) {
                pack_strip_along_depth(panel + strip, source.data + first * source.stride, source.stride, present,
                                       source.depth, width);
            } else {
                // Reading 8 where the panel has 6 is fine inside the row; past its end only what is there is read.
                const std::int64_t readable = std::min(kLanes, source.across - first);
                pack_strip_across(panel + strip, source.data + first, source.stride,
                                  std::max<std::int64_t>(readable, 0), source.depth, width);
            }
        }
    }
}

template void pack_panels(float*, const PackSource<float>&, std::int64_t);
template void pack_panels(float*, const PackSource<Bfloat16>&, std::int64_t);

}  // namespace duologue::cpu
