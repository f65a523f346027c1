// In the place of CUB's header: the one sort that is called, stable as CUB's is.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <vector>

#include "emulated_gpu/streams.h"

namespace cub {

struct DeviceRadixSort {
    /// Without `room` only tells its size.
    template <class Key, class Value, class Count>
    static cudaError_t SortPairs(void* room, std::size_t& room_bytes, const Key* keys, Key* sorted_keys,
                                 const Value* values, Value* sorted_values, Count count, int begin_bit, int end_bit,
                                 cudaStream_t stream) {
        const std::size_t needed = static_cast<std::size_t>(count) * sizeof(Key) + 1;
        if (room == nullptr) {
            room_bytes = needed;
            return cudaSuccess;
        }
        if (room_bytes < needed) return cudaErrorInvalidValue;
        emulated_gpu::queue_work(stream, [=] {
            std::memset(room, 0xff, needed);
            std::vector<Count> order(static_cast<std::size_t>(count));
            std::iota(order.begin(), order.end(), Count{0});
            const auto bits = [&](Count i) {
                const std::uint64_t mask = (std::uint64_t{1} << (end_bit - begin_bit)) - 1;
                return static_cast<std::uint64_t>(keys[i]) >> begin_bit & mask;
            };
            std::stable_sort(order.begin(), order.end(), [&](Count a, Count b) { return bits(a) < bits(b); });
            for (std::size_t i = 0; i < order.size(); ++i) {
                sorted_keys[i] = keys[order[i]];
                sorted_values[i] = values[order[i]];
            }
        });
        return cudaSuccess;
    }
};

}  // namespace cub
