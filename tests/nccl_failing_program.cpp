// A job whose GPUs fail in the way named on the command line, with GPUs that are not there. nccl_failure_test runs it.
#include <csignal>
#include <string>
#include <thread>
#include <vector>

#include "comm/nccl_entry.h"
#include "duologue/core/error.h"
#include "support/fake_gpu.h"

namespace {

using duologue::World;

// What a host thread does that waits for its GPU: it hears of nothing.
void wait_for_the_gpu() { std::this_thread::sleep_for(std::chrono::minutes(5)); }

void run(World& world, const std::string& how) {
    const bool chosen = world.rank() == world.size() / 2;
    duologue::fake_gpu().never_connects = how == "never-connects";
    const auto communicator = duologue::nccl::make_communicator(world, {});
    std::vector<float> x(1000, 1.0F);
    const auto tensor = duologue::make_vector(x.data(), duologue::DataType::kF32, 1000);
    for (int step = 1; step <= 3; ++step) {
        world.set_step(step - 1);
        if (step == 2 && chosen && how == "freeze") std::raise(SIGSTOP);
        duologue::fake_gpu().hangs = step == 2 && how == "freeze";
        duologue::fake_gpu().fails_later = step == 2 && chosen && how == "fails-later";
        if (step == 2 && !chosen && how == "fails-later") wait_for_the_gpu();
        communicator->all_reduce_sum(tensor, "the sum of gradients");
        communicator->join();
        if (step == 2 && (how == "freeze" || how == "fails-later")) wait_for_the_gpu();
        communicator->confirm();
    }
}

}  // namespace

int main(int argc, char** argv) {
    World world(&argc, &argv);
    world.set_timeout_seconds(6.0);
    try {
        run(world, argv[1]);
    } catch (const duologue::Error& error) {
        world.end(error.exit_status(), error.what());
    }
    return 0;
}
