// In the place of src/backend/cuda/tensor_core.cuh: the same fragments, exchanged between the lanes of a warp.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "backend/cuda/device.cuh"
#include "emulated_gpu/blocks.h"

namespace duologue::cuda {

struct Matrices {
    unsigned word[4];
};

// Element `row`, `column` of matrix `number`, which the lanes have shown row by row.
inline unsigned shown_element(const emulated_gpu::Words* rows, unsigned number, unsigned row, unsigned column) {
    return rows[8 * number + row][column / 2] >> (16 * (column % 2)) & 0xffffU;
}

inline const emulated_gpu::Words* show_row(const Bf16* row) {
    if (reinterpret_cast<std::uintptr_t>(row) % 16 != 0) emulated_gpu::refuse("a row of a matrix that is not aligned");
    emulated_gpu::Words words = {};
    std::memcpy(words.data(), row, 16);
    return emulated_gpu::exchanged(words);
}

inline Matrices load_matrices(const Bf16* row) {
    const emulated_gpu::Words* rows = show_row(row);
    const unsigned lane = emulated_gpu::lane();
    Matrices m;
    for (unsigned i = 0; i < 4; ++i) m.word[i] = rows[8 * i + lane / 4][lane % 4];
    return m;
}

inline Matrices load_transposed(const Bf16* row) {
    const emulated_gpu::Words* rows = show_row(row);
    const unsigned lane = emulated_gpu::lane();
    Matrices m;
    for (unsigned i = 0; i < 4; ++i) {
        const unsigned low = shown_element(rows, i, 2 * (lane % 4), lane / 4);
        m.word[i] = low | shown_element(rows, i, 2 * (lane % 4) + 1, lane / 4) << 16;
    }
    return m;
}

inline float half_of(unsigned word, unsigned half) {
    return std::bit_cast<float>(half == 0 ? word << 16 : word & 0xffff0000U);
}

inline void multiply_add(float (&d)[4], const Matrices& a, unsigned upper, unsigned lower) {
    const emulated_gpu::Words* lanes =
        emulated_gpu::exchanged({a.word[0], a.word[1], a.word[2], a.word[3], upper, lower});
    const unsigned lane = emulated_gpu::lane();
    for (unsigned i = 0; i < 4; ++i) {
        const unsigned row = lane / 4 + 8 * (i / 2);
        const unsigned column = 2 * (lane % 4) + i % 2;
        for (unsigned k = 0; k < 16; ++k) {
            const unsigned pair = k % 8 / 2;
            const unsigned left = lanes[4 * (row % 8) + pair][row / 8 + 2 * (k / 8)];
            const unsigned right = lanes[4 * column + pair][4 + k / 8];
            d[i] += half_of(left, k % 2) * half_of(right, k % 2);
        }
    }
}

inline int thread_anew() { return static_cast<int>(threadIdx.x); }

inline unsigned packed(float low, float high) {
    const unsigned upper = __bfloat16_as_ushort(__float2bfloat16_rn(high));
    return __bfloat16_as_ushort(__float2bfloat16_rn(low)) | upper << 16;
}

inline float power_of_two(float x) {
    const float power = std::exp2(x);
    return std::fpclassify(power) == FP_SUBNORMAL ? 0.0F : power;
}

inline void begin_copy(void* shared, const void* from, int bytes) { emulated_gpu::begin_copy(shared, from, bytes); }
inline void end_copy_group() { emulated_gpu::end_copy_group(); }
template <int kPending>
void wait_for_copies() {
    emulated_gpu::wait_for_copies(kPending);
}

}  // namespace duologue::cuda
