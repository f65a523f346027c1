// MPI's beginning and end, who the ranks are, agreement on strings, and the end of a job that fails.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <thread>
#include <utility>

#include "comm/last_resort.h"
#include "comm/world_mpi.h"
#include "duologue/core/error.h"
#include "duologue/core/log.h"

namespace duologue {

namespace {

constexpr double kTurnSeconds = 6.0;   // for lower ranks to speak
constexpr double kAbortSeconds = 3.0;  // for MPI_Abort, which may wait for a daemon that is gone

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

MPI_Comm duplicate_world() {
    MPI_Comm copy = MPI_COMM_NULL;
    check(MPI_Comm_dup(MPI_COMM_WORLD, &copy), "making a communicator");
    check(MPI_Comm_set_errhandler(copy, MPI_ERRORS_RETURN), "setting the error handler");
    return copy;
}

std::string own_host() {
    std::array<char, 256> name{};
    ::gethostname(name.data(), name.size() - 1);
    return name.data();
}

}  // namespace

World::World(int* argc, char*** argv, const Launch& launch) : local_size_(0) {
    const LastResort guard(
        {.seconds = launch.start_seconds,
         .exit_status = static_cast<int>(ErrorCode::kCommunication),
         .message = fmt::format("rank {} on {} waited {:.1f} s for the other ranks to start MPI; see whether all of "
                                "them were launched, run, and reach each other",
                                launch.rank, own_host(), launch.start_seconds),
         .turn = {.rank = launch.rank, .terminated = launch.terminated}});
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
    int first_process = ::getpid();
    check(MPI_Bcast(&first_process, 1, MPI_INT, 0, MPI_COMM_WORLD), "announcing rank 0's process");
    const WorldCommunicators communicators{.channel = duplicate_world(), .presence = duplicate_world()};
    mpi_ = std::make_unique<Mpi>(communicators, Turn{.rank = rank_, .terminated = launch.terminated}, first_process,
                                 std::move(hosts));
}

World::~World() {
    constexpr const char* kWhat = "the end of the job";
    try {
        MPI_Request request = MPI_REQUEST_NULL;
        check(MPI_Ibarrier(mpi_->channel.communicator(), &request), kWhat);
        mpi_->channel.wait(request, kWhat, nullptr);
    } catch (const Error& error) {
        end(error.exit_status(), error.what());
    }
    const Situation& situation = mpi_->situation;
    const LastResort guard({.seconds = situation.timeout_seconds,
                            .exit_status = static_cast<int>(ErrorCode::kCommunication),
                            .message = situation.describe_wait("ending MPI", situation.timeout_seconds),
                            .turn = situation.turn()});
    MPI_Finalize();
}

std::vector<std::string> World::gather_all(const std::string& mine, const char* what) {
    Channel& channel = mpi_->channel;
    const auto ranks = static_cast<std::size_t>(size_);
    const int length = static_cast<int>(mine.size());
    std::vector<int> lengths(ranks);
    MPI_Request request = MPI_REQUEST_NULL;
    check(MPI_Iallgather(&length, 1, MPI_INT, lengths.data(), 1, MPI_INT, channel.communicator(), &request), what);
    channel.wait(request, what, nullptr);
    std::vector<int> offsets(ranks + 1, 0);
    std::partial_sum(lengths.begin(), lengths.end(), offsets.begin() + 1);
    std::string all(static_cast<std::size_t>(offsets.back()), '\0');
    check(MPI_Iallgatherv(mine.data(), length, MPI_CHAR, all.data(), lengths.data(), offsets.data(), MPI_CHAR,
                          channel.communicator(), &request),
          what);
    channel.wait(request, what, nullptr);
    std::vector<std::string> strings;
    for (std::size_t i = 0; i < ranks; ++i) {
        strings.push_back(all.substr(static_cast<std::size_t>(offsets[i]), static_cast<std::size_t>(lengths[i])));
    }
    return strings;
}

std::string World::broadcast(const std::string& mine, const char* what) {
    return gather_all(rank_ == 0 ? mine : std::string(), what)[0];
}

std::shared_ptr<void> World::busy(const char* what) { return mpi_->situation.presence.busy(what); }

void World::set_timeout_seconds(double seconds) { mpi_->set_timeout_seconds(seconds); }

void World::set_step(std::int64_t step) { mpi_->situation.step = step; }

// Returns where this rank is to say it; else the process ends here. MPI may be stuck.
void World::await_turn(int exit_status, const std::string& text) {
    Presence& presence = mpi_->situation.presence;
    const auto told = [&presence] {
        presence.hear_failure();
        return presence.failure_is_told();
    };
    {
        const LastResort guard({.seconds = kTurnSeconds, .exit_status = exit_status, .message = text});
        if (!told() && mpi_->situation.turn().await(told) == Turn::Verdict::kSpeak) return;
    }
    // The one that has spoken ends this one too; an end of its own would be news.
    std::this_thread::sleep_for(std::chrono::duration<double>(kAbortSeconds));
    std::_Exit(exit_status);
}

void World::end(int exit_status, const std::string& message) {
    if (ending_.exchange(true)) {
        while (true) std::this_thread::sleep_for(std::chrono::hours(1));  // another thread is at it
    }
    const std::string text = message + mpi_->situation.where();
    if (size_ > 1) await_turn(exit_status, text);
    Log(rank_, size_).error("{}", text);
    std::fflush(nullptr);
    const LastResort guard({.seconds = kAbortSeconds, .exit_status = exit_status, .message = ""});
    if (size_ == 1) {
        MPI_Finalize();  // nobody to end, and nothing to say about it
    } else {
        mpi_->situation.presence.announce_failure(mpi_->situation.other_speakers(exit_status));
        MPI_Abort(MPI_COMM_WORLD, exit_status);
    }
    std::_Exit(exit_status);
}

}  // namespace duologue
