// A job in which one rank fails in the way named on the command line. comm_failure_test runs it under mpirun.
#include <mpi.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "duologue/comm/communicator.h"
#include "duologue/core/error.h"

namespace {

using duologue::World;

constexpr double kWaitSeconds = 3.0;
constexpr double kTimeoutSeconds = 2 * kWaitSeconds;  // half of it is for the end

std::atomic<bool> terminated = false;
extern "C" void on_terminate(int) { terminated = true; }

std::string how;  // read by MPI_Comm_dup below

/// As mpirun says; MPI may not have begun.
int launched_rank() {
    const char* rank = std::getenv("OMPI_COMM_WORLD_RANK");
    return rank == nullptr ? 0 : std::atoi(rank);
}

void work_for(double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }

void misbehave(World& world) {
    if (how == "throw") duologue::fail(duologue::ErrorCode::kData, "this rank throws");
    if (how == "freeze") std::raise(SIGSTOP);
    if (how == "die") std::raise(SIGKILL);
    if (how == "slow") work_for(2.5 * kWaitSeconds);
    if (how == "busy") {
        const auto token = world.busy("writing something big");
        work_for(2.5 * kWaitSeconds);
    }
    if (how == "freeze-while-busy") {
        const auto token = world.busy("writing something big");
        work_for(0.5 * kWaitSeconds);
        std::raise(SIGSTOP);
    }
}

void run(World& world) {
    const bool chosen = world.rank() == world.size() / 2;
    if (chosen && how == "freeze-in-set-up") std::raise(SIGSTOP);
    (void)world.gather_all("", "the comparison of something");
    const auto communicator = duologue::make_mpi_communicator(world);
    std::vector<float> x(100000, 1.0F);
    const auto tensor = duologue::make_vector(x.data(), duologue::DataType::kF32, 100000);
    for (int step = 1; step <= 5; ++step) {
        world.set_step(step - 1);
        if (step == 3 && how == "all-throw") duologue::fail(duologue::ErrorCode::kData, "every rank throws");
        if (step == 3 && chosen) misbehave(world);
        communicator->all_reduce_sum(tensor, "the sum of gradients");
        communicator->join();
    }
    if (chosen && how == "freeze-before-end") std::raise(SIGSTOP);
}

}  // namespace

// The library calls this one, by MPI's profiling interface.
extern "C" int MPI_Comm_dup(MPI_Comm communicator, MPI_Comm* copy) {
    if (how == "freeze-in-comm-dup" && launched_rank() == 1) std::raise(SIGSTOP);
    return PMPI_Comm_dup(communicator, copy);
}

int main(int argc, char** argv) {
    std::signal(SIGTERM, on_terminate);
    how = argv[1];
    if (how == "freeze-before-start" && launched_rank() == 1) std::raise(SIGSTOP);
    World world(&argc, &argv, {.rank = launched_rank(), .terminated = &terminated, .start_seconds = kWaitSeconds});
    world.set_timeout_seconds(kTimeoutSeconds);
    try {
        run(world);
    } catch (const duologue::Error& error) {
        world.end(error.exit_status(), error.what());
    }
    return 0;
}
