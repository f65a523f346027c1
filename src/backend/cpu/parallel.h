// Loops over threads. Work is cut into pieces that do not depend on the number of threads, so neither do the results.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>

#include "duologue/core/rounding.h"

namespace duologue::cpu {

/// body(index, thread) for every index in [0, count), handed out one by one. `body` must not throw.
template <class Body>
void parallel_for(int threads, std::int64_t count, const Body& body) {
    if (threads == 1 || count <= 1) {
        for (std::int64_t i = 0; i < count; ++i) body(i, 0);
        return;
    }
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (std::int64_t i = 0; i < count; ++i) body(i, omp_get_thread_num());
}

/// body(begin, end, thread) for consecutive ranges of `grain` indices.
template <class Body>
void parallel_ranges(int threads, std::int64_t count, std::int64_t grain, const Body& body) {
    parallel_for(threads, divided_up(count, grain), [&](std::int64_t piece, int thread) {
        body(piece * grain, std::min(count, (piece + 1) * grain), thread);
    });
}

}  // namespace duologue::cpu
