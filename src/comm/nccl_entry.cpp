// The function that the program finds in libduologue_cuda.so by name. It throws Errors.
#include "comm/nccl_entry.h"

extern "C" {

__attribute__((visibility("default"))) duologue::Communicator* duologue_make_nccl_communicator(
    duologue::World* world, const duologue::NcclOptions* options) {
    return duologue::nccl::make_communicator(*world, *options).release();
}
}
