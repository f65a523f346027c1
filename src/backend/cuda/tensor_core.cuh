// Instructions of sm_80 and later that CUDA C++ has no functions for: matrix products of a warp, copies in the
// background.
#pragma once

#include "backend/cuda/device.cuh"

namespace duologue::cuda {

/// Four 8 x 8 matrices of bf16 over the lanes of a warp: of each, lane l has elements (l / 4, 2 (l % 4)) in the lower
/// half of a word and (l / 4, 2 (l % 4) + 1) in the upper one.
struct Matrices {
    unsigned word[4];
};

__device__ __forceinline__ unsigned shared_address(const void* shared) {
    return static_cast<unsigned>(__cvta_generic_to_shared(shared));
}

/// Four matrices out of shared memory. Lanes 8 i to 8 i + 7 say where the rows of matrix i begin, at multiples of 16
/// bytes; all lanes of the warp take part.
__device__ __forceinline__ Matrices load_matrices(const Bf16* row) {
    Matrices m;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(m.word[0]), "=r"(m.word[1]), "=r"(m.word[2]), "=r"(m.word[3])
                 : "r"(shared_address(row))
                 : "memory");
    return m;
}

/// As above, each of them transposed.
__device__ __forceinline__ Matrices load_transposed(const Bf16* row) {
    Matrices m;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(m.word[0]), "=r"(m.word[1]), "=r"(m.word[2]), "=r"(m.word[3])
                 : "r"(shared_address(row))
                 : "memory");
    return m;
}

/// d[16,8] += a[16,16] b[16,8] over the lanes of a warp, all of which take part. With g = lane / 4 and t = lane % 4:
///   d: (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1)
///   a: the matrices (rows 0-7, columns 0-7), (8-15, 0-7), (0-7, 8-15), (8-15, 8-15)
///   b: elements (2t, g) and (2t + 1, g) in `upper`, (2t + 8, g) and (2t + 9, g) in `lower`
/// PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type".
__device__ __forceinline__ void multiply_add(float (&d)[4], const Matrices& a, unsigned upper, unsigned lower) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a.word[0]), "r"(a.word[1]), "r"(a.word[2]), "r"(a.word[3]), "r"(upper), "r"(lower));
}

/// threadIdx.x, read anew: what depends on it is computed where this is called, and not kept in registers from before.
__device__ __forceinline__ int thread_anew() {
    int thread;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
    return thread;
}

/// Two values rounded to bf16 in a word.
__device__ __forceinline__ unsigned packed(float low, float high) {
    unsigned word;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
}

/// 2^x; 0 where that is below the smallest normal number.
__device__ __forceinline__ float power_of_two(float x) {
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
    return power;
}

/// Begins to copy 16 bytes to shared memory, of which the first `bytes` come from device memory; the others are 0.
__device__ __forceinline__ void begin_copy(void* shared, const void* from, int bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :
                 : "r"(shared_address(shared)), "l"(__cvta_generic_to_global(from)), "r"(bytes)
                 : "memory");
}

/// Makes one group of the copies that this thread has begun since the last group.
__device__ __forceinline__ void end_copy_group() { asm volatile("cp.async.commit_group;" ::: "memory"); }

/// Waits for all groups of this thread but the last `kPending`.
template <int kPending>
__device__ __forceinline__ void wait_for_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

}  // namespace duologue::cuda
