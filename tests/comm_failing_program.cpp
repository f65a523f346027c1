// A job in which one rank fails in the way named on the command line. comm_failure_test runs it under mpirun.
#include <chrono>
#include <csignal>
#include <string>
#include <thread>
#include <vector>

#include "duologue/comm/communicator.h"
#include "duologue/core/error.h"

namespace {

using duologue::World;

constexpr double kTimeoutSeconds = 3.0;

std::atomic<bool> terminated = false;
extern "C" void on_terminate(int) { terminated = true; }

void work_for(double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }

void misbehave(World& world, const std::string& how) {
    if (how == "throw") duologue::fail(duologue::ErrorCode::kData, "this rank throws");
    if (how == "freeze") std::raise(SIGSTOP);
    if (how == "die") std::raise(SIGKILL);
    if (how == "slow") work_for(2.5 * kTimeoutSeconds);
    if (how == "busy") {
        const auto token = world.busy("writing something big");
        work_for(2.5 * kTimeoutSeconds);
    }
    if (how == "freeze-while-busy") {
        const auto token = world.busy("writing something big");
        work_for(0.5 * kTimeoutSeconds);
        std::raise(SIGSTOP);
    }
}

void run(World& world, const std::string& how) {
    const bool chosen = world.rank() == world.size() / 2;
    if (chosen && how == "freeze-in-set-up") std::raise(SIGSTOP);
    (void)world.gather_all("", "the comparison of something");
    const auto communicator = duologue::make_mpi_communicator(world);
    std::vector<float> x(100000, 1.0F);
    const auto tensor = duologue::make_vector(x.data(), duologue::DataType::kF32, 100000);
    for (int step = 1; step <= 5; ++step) {
        world.set_step(step - 1);
        if (step == 3 && how == "all-throw") duologue::fail(duologue::ErrorCode::kData, "every rank throws");
        if (step == 3 && chosen) misbehave(world, how);
        communicator->all_reduce_sum(tensor, "the sum of gradients");
        communicator->join();
    }
    if (chosen && how == "freeze-before-end") std::raise(SIGSTOP);
}

}  // namespace

int main(int argc, char** argv) {
    World world(&argc, &argv);
    world.set_timeout_seconds(kTimeoutSeconds);
    std::signal(SIGTERM, on_terminate);
    world.set_terminated(terminated);
    try {
        run(world, argv[1]);
    } catch (const duologue::Error& error) {
        world.end(error.exit_status(), error.what());
    }
    return 0;
}
