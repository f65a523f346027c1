// add, cast, dropout, and the random key.
#include "backend/cuda/launch.cuh"

namespace duologue::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kBlocksPerMultiprocessor = 8;

__global__ void set_key_kernel(std::uint64_t* random_key, std::uint64_t value) { *random_key = value; }

// Calls `each(first element, how many)` for every octet of `elements`, over the whole grid.
template <class Each>
__device__ __forceinline__ void for_each_octet(std::int64_t elements, const Each& each) {
    const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads * kOctet;
    for (std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kOctet; i < elements;
         i += stride) {
        each(i, elements - i);
    }
}

template <Access kAccess, class T>
__global__ void __launch_bounds__(kThreads) add_kernel(T* y, const T* a, const T* b, std::int64_t elements) {
    for_each_octet(elements, [&](std::int64_t i, std::int64_t count) {
        Octet result = load_octet<kAccess>(a + i, count);
        const Octet other = load_octet<kAccess>(b + i, count);
#pragma unroll
        for (int j = 0; j < kOctet; ++j) result.v[j] += other.v[j];
        store_octet<kAccess>(y + i, result, count);
    });
}

template <Access kAccess, class To, class From>
__global__ void __launch_bounds__(kThreads) cast_kernel(To* y, const From* x, std::int64_t elements) {
    for_each_octet(elements, [&](std::int64_t i, std::int64_t count) {
        store_octet<kAccess>(y + i, load_octet<kAccess>(x + i, count), count);
    });
}

template <Access kAccess, class T>
__global__ void __launch_bounds__(kThreads) dropout_kernel(T* y, const T* x, DropoutDraw draw, std::int64_t elements) {
    const DropoutMask mask = mask_of(draw);
    for_each_octet(elements, [&](std::int64_t i, std::int64_t count) {
        Octet value = load_octet<kAccess>(x + i, count);
        const Octet factors = dropout_factors<kAccess>(mask, i);
#pragma unroll
        for (int j = 0; j < kOctet; ++j) value.v[j] *= factors.v[j];
        store_octet<kAccess>(y + i, value, count);
    });
}

// The tensor as one row: contiguous operands need no whole octets per row, only at the end of all.
Tensor flat(const Tensor& tensor) {
    Tensor row = tensor;
    row.columns = tensor.rows * tensor.columns;
    row.rows = 1;
    row.row_stride = row.columns;
    return row;
}

LaunchShape octet_shape(const Launch& launch, std::int64_t elements) {
    return {grid_for(launch, divided_up(elements, kOctet), kThreads, kBlocksPerMultiprocessor), kThreads};
}

}  // namespace

cudaError_t set_random_key(const Launch& launch, std::uint64_t* random_key, std::uint64_t value) {
    return launch_kernel(launch.stream, {1, 1}, set_key_kernel, random_key, value);
}

cudaError_t add(const Launch& launch, const Tensor& y, const Tensor& a, const Tensor& b) {
    const std::int64_t elements = y.elements();
    if (elements == 0) return cudaSuccess;
    return with_access(access_of({flat(y), flat(a), flat(b)}), [&](auto access) {
        return with_type(y.type, [&](auto element) {
            using T = decltype(element);
            return launch_kernel(launch.stream, octet_shape(launch, elements), add_kernel<decltype(access)::kValue, T>,
                                 y.as<T>(), a.as<T>(), b.as<T>(), elements);
        });
    });
}

cudaError_t cast(const Launch& launch, const Tensor& y, const Tensor& x) {
    const std::int64_t elements = y.elements();
    if (elements == 0) return cudaSuccess;
    return with_access(access_of({flat(y), flat(x)}), [&](auto access) {
        return with_type(y.type, [&](auto to) {
            return with_type(x.type, [&](auto from) {
                using To = decltype(to);
                using From = decltype(from);
                return launch_kernel(launch.stream, octet_shape(launch, elements),
                                     cast_kernel<decltype(access)::kValue, To, From>, y.as<To>(), x.as<From>(),
                                     elements);
            });
        });
    });
}

cudaError_t dropout(const Launch& launch, const Tensor& y, const Tensor& x, const Dropout& dropout) {
    const std::int64_t elements = y.elements();
    if (elements == 0) return cudaSuccess;
    return with_access(access_of({flat(y), flat(x)}), [&](auto access) {
        return with_type(y.type, [&](auto element) {
            using T = decltype(element);
            return launch_kernel(launch.stream, octet_shape(launch, elements),
                                 dropout_kernel<decltype(access)::kValue, T>, y.as<T>(), x.as<T>(),
                                 draw_of(launch, dropout), elements);
        });
    });
}

}  // namespace duologue::cuda
