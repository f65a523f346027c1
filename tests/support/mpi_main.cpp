// A GoogleTest main for programs of several ranks: every rank runs every test, and all fail when one fails.
#include "support/mpi_main.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace duologue {

namespace {
World* the_world = nullptr;  // GoogleTest gives tests no other way to be handed anything
}

World& test_world() { return *the_world; }

}  // namespace duologue

int main(int argc, char** argv) {
    duologue::World world(&argc, &argv);
    world.set_timeout_seconds(30.0);
    testing::InitGoogleTest(&argc, argv);
    duologue::the_world = &world;
    const int mine = RUN_ALL_TESTS();
    const auto all = world.gather_all(mine == 0 ? "passed" : "failed");
    return std::all_of(all.begin(), all.end(), [](const std::string& one) { return one == "passed"; }) ? 0 : 1;
}
