// A job in which one rank fails in the way named on the command line. comm_failure_test runs it under mpirun.
#include <csignal>
#include <cstdio>
#include <string>
#include <vector>

#include "duologue/comm/communicator.h"
#include "duologue/core/error.h"

namespace {

using duologue::World;

void misbehave(const std::string& how) {
    if (how == "throw") duologue::fail(duologue::ErrorCode::kData, "this rank throws");
    if (how == "freeze") std::raise(SIGSTOP);
    if (how == "die") std::raise(SIGKILL);
}

void run(World& world, const std::string& how) {
    world.set_timeout_seconds(3.0);
    const auto communicator = duologue::make_mpi_communicator(world);
    std::vector<float> x(100000, 1.0F);
    const auto tensor = duologue::make_vector(x.data(), duologue::DataType::kF32, 100000);
    for (int step = 0; step < 5; ++step) {
        if (step == 2 && world.rank() == world.size() / 2) misbehave(how);
        communicator->all_reduce_sum(tensor, "the sum of gradients");
        communicator->join();
    }
    if (world.rank() == world.size() / 2 && how == "freeze-before-end") std::raise(SIGSTOP);
}

}  // namespace

int main(int argc, char** argv) {
    World world(&argc, &argv);
    try {
        run(world, argv[1]);
    } catch (const duologue::Error& error) {
        std::fprintf(stderr, "error: %s\n", error.what());
        world.abort(error.exit_status());
    }
    return 0;
}
