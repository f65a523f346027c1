// ordered_map: works on blocks in several threads and takes the results in the order of the blocks.
#pragma once

#include <cstddef>
#include <deque>
#include <exception>
#include <future>
#include <optional>
#include <utility>

namespace duologue::preprocess {

/// For each block of `source()` (std::optional, empty at the end) calls `work(block)` in one of `workers` threads and
/// `sink(result)` in this thread, in the order of the blocks; what the sink sees does not depend on `workers`, errors
/// included. At most workers + 1 blocks exist at a time. With one worker everything happens in this thread.
template <class Source, class Work, class Sink>
void ordered_map(int workers, Source source, Work work, Sink sink) {
    using Portion = typename decltype(source())::value_type;
    using Result = decltype(work(std::declval<Portion>()));
    const auto policy = workers > 1 ? std::launch::async : std::launch::deferred;
    const auto window = static_cast<std::size_t>(workers > 1 ? workers : 1);
    std::deque<std::future<Result>> running;
    std::exception_ptr source_error;  // told only after the blocks before it are done
    bool more = true;
    while (more || !running.empty()) {
        while (more && running.size() < window) {
            std::optional<Portion> block;
            try {
                block = source();
            } catch (...) {
                source_error = std::current_exception();
            }
            more = block.has_value();
            if (more) {
                running.push_back(std::async(
                    policy, [&work, taken = std::move(*block)]() mutable { return work(std::move(taken)); }));
            }
        }
        if (running.empty()) break;
        Result result = running.front().get();
        running.pop_front();
        sink(std::move(result));
    }
    if (source_error) std::rethrow_exception(source_error);
}

}  // namespace duologue::preprocess
