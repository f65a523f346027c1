// MPI's beginning and end, who the ranks are, and agreement on strings.
#include <array>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <utility>

#include "comm/world_mpi.h"
#include "duologue/core/error.h"

namespace duologue {

namespace {

void initialise(int* argc, char*** argv) {
    // Without mpirun, Open MPI would start a daemon of its own, which fails noisily where there is no ssh.
    ::setenv("OMPI_MCA_ess_singleton_isolated", "1", 0);  // NOLINT(concurrency-mt-unsafe): before any thread
    int provided = MPI_THREAD_SINGLE;
    check(MPI_Init_thread(argc, argv, MPI_THREAD_MULTIPLE, &provided), "MPI_Init_thread");
    require(provided == MPI_THREAD_MULTIPLE, ErrorCode::kCommunication,
            "this MPI offers thread level {}, but {} (MPI_THREAD_MULTIPLE) is needed; use an MPI built with threads",
            provided, static_cast<int>(MPI_THREAD_MULTIPLE));
}

std::vector<std::string> host_of_every_rank(int ranks) {
    std::array<char, MPI_MAX_PROCESSOR_NAME> mine{};
    int length = 0;
    check(MPI_Get_processor_name(mine.data(), &length), "asking for the host's name");
    std::vector<char> all(mine.size() * static_cast<std::size_t>(ranks));
    check(MPI_Allgather(mine.data(), MPI_MAX_PROCESSOR_NAME, MPI_CHAR, all.data(), MPI_MAX_PROCESSOR_NAME, MPI_CHAR,
                        MPI_COMM_WORLD),
          "gathering the hosts' names");
    std::vector<std::string> hosts;
    for (std::size_t begin = 0; begin < all.size(); begin += mine.size()) hosts.emplace_back(&all[begin]);
    return hosts;
}

}  // namespace

World::World(int* argc, char*** argv) : local_size_(0) {
    initialise(argc, argv);
    check(MPI_Comm_rank(MPI_COMM_WORLD, &rank_), "asking for the rank");
    check(MPI_Comm_size(MPI_COMM_WORLD, &size_), "asking for the number of ranks");
    std::vector<std::string> hosts = host_of_every_rank(size_);
    host_ = hosts[static_cast<std::size_t>(rank_)];
    for (int other = 0; other < size_; ++other) {
        if (hosts[static_cast<std::size_t>(other)] != host_) continue;
        if (other < rank_) ++local_rank_;
        ++local_size_;
    }
    mpi_ = std::make_unique<Mpi>(std::move(hosts));
}

void World::set_step(std::int64_t step) { mpi_->situation.step = step; }

void World::set_terminated(const std::atomic<bool>& terminated) { mpi_->situation.terminated = &terminated; }

World::~World() {
    try {
        MPI_Request request = MPI_REQUEST_NULL;
        check(MPI_Ibarrier(mpi_->channel.communicator(), &request), "the end of the job");
        mpi_->channel.wait(request, "the end of the job", timeout_seconds_, nullptr);
    } catch (const Error& error) {
        fmt::print(stderr, "error: {}\n", error.what());
        abort(error.exit_status());
    }
    MPI_Finalize();
}

std::vector<std::string> World::gather_all(const std::string& mine) {
    Channel& channel = mpi_->channel;
    const auto ranks = static_cast<std::size_t>(size_);
    const int length = static_cast<int>(mine.size());
    std::vector<int> lengths(ranks);
    MPI_Request request = MPI_REQUEST_NULL;
    check(MPI_Iallgather(&length, 1, MPI_INT, lengths.data(), 1, MPI_INT, channel.communicator(), &request),
          "gathering strings");
    channel.wait(request, "gathering strings", timeout_seconds_, nullptr);
    std::vector<int> offsets(ranks + 1, 0);
    std::partial_sum(lengths.begin(), lengths.end(), offsets.begin() + 1);
    std::string all(static_cast<std::size_t>(offsets.back()), '\0');
    check(MPI_Iallgatherv(mine.data(), length, MPI_CHAR, all.data(), lengths.data(), offsets.data(), MPI_CHAR,
                          channel.communicator(), &request),
          "gathering strings");
    channel.wait(request, "gathering strings", timeout_seconds_, nullptr);
    std::vector<std::string> strings;
    for (std::size_t i = 0; i < ranks; ++i) {
        strings.push_back(all.substr(static_cast<std::size_t>(offsets[i]), static_cast<std::size_t>(lengths[i])));
    }
    return strings;
}

std::string World::broadcast(const std::string& mine) { return gather_all(rank_ == 0 ? mine : std::string())[0]; }

void World::abort(int exit_status) {
    std::fflush(nullptr);
    if (size_ == 1) {
        MPI_Finalize();  // nobody to end, and nothing to say about it
    } else {
        MPI_Abort(MPI_COMM_WORLD, exit_status);
    }
    std::_Exit(exit_status);
}

}  // namespace duologue
