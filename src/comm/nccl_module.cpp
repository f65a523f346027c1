// NcclCommunicator as the program sees it: in a module that is loaded when it is asked for.
#include "duologue/comm/nccl_communicator.h"
#include "duologue/core/device_module.h"

namespace duologue {

std::unique_ptr<Communicator> make_nccl_communicator(World& world, const NcclOptions& options) {
    using Make = Communicator*(World*, const NcclOptions*);
    return std::unique_ptr<Communicator>(
        device_module_function<Make>("duologue_make_nccl_communicator")(&world, &options));
}

}  // namespace duologue
