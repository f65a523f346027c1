// MPI's versions, and a timed sum over the ranks.
#include "duologue/comm/examination.h"

#include <mpi.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <limits>
#include <vector>

#include "duologue/core/report.h"

namespace duologue {

namespace {

/// "4.1.4" of "Open MPI v4.1.4, package: ...".
std::string running_open_mpi() {
    std::array<char, MPI_MAX_LIBRARY_VERSION_STRING> text{};
    int length = 0;
    MPI_Get_library_version(text.data(), &length);
    const std::string all(text.data(), static_cast<std::size_t>(length));
    const std::string sign = "Open MPI v";
    const std::size_t begin = all.find(sign);
    if (begin == std::string::npos) return all.substr(0, all.find('\n'));
    return all.substr(begin + sign.size(), all.find_first_of(", ", begin + sign.size()) - begin - sign.size());
}

}  // namespace

Finding examine_mpi() {
    return compare_versions("Open MPI",
                            fmt::format("{}.{}.{}", OMPI_MAJOR_VERSION, OMPI_MINOR_VERSION, OMPI_RELEASE_VERSION),
                            running_open_mpi());
}

Finding examine_all_reduce(World& world, std::int64_t bytes) {
    std::vector<float> values(static_cast<std::size_t>(bytes) / sizeof(float), 1.0F);
    const Tensor x = make_vector(values.data(), DataType::kF32, std::ssize(values));
    const std::unique_ptr<Communicator> communicator = make_mpi_communicator(world);
    constexpr int kRuns = 5;
    double best = std::numeric_limits<double>::infinity();
    for (int run = 0; run < kRuns; ++run) {
        std::fill(values.begin(), values.end(), 1.0F);
        communicator->barrier();
        communicator->join();
        const auto begin = std::chrono::steady_clock::now();
        communicator->all_reduce_sum(x, "the timed sum");
        communicator->join();
        best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    }
    const auto ranks = static_cast<float>(world.size());
    const std::string seen =
        fmt::format("a sum of {} over {} ranks takes {:.1f} ms, {:.0f} MB/s", size_text(static_cast<double>(bytes)),
                    world.size(), best * 1e3, static_cast<double>(bytes) * 1e-6 / best);
    if (std::any_of(values.begin(), values.end(), [ranks](float value) { return value != ranks; })) {
        return wrong(ErrorCode::kCommunication, "all-reduce", seen + ", and its result is wrong",
                     "the network or the MPI library loses data: check MPI with its own tests, and other network "
                     "settings (OMPI_MCA_btl, OMPI_MCA_pml)");
    }
    return fine("all-reduce", seen);
}

}  // namespace duologue
