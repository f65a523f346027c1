// The CUDA back end as the program sees it: in a module that is loaded when it is asked for.
#include "duologue/backend/cuda_backend.h"
#include "duologue/core/device_module.h"
#include "duologue/core/error.h"

namespace duologue {

int cuda_device_count() {
    try {
        return device_module_function<int()>("duologue_cuda_device_count")();
    } catch (const Error&) {
        return 0;  // no module, or no libraries for it: no device is an answer
    }
}

std::vector<CudaDevice> cuda_devices() {
    std::vector<CudaDevice> devices;
    device_module_function<void(std::vector<CudaDevice>*)>("duologue_cuda_devices")(&devices);
    return devices;
}

std::unique_ptr<CudaBackend> make_cuda_backend(const CudaOptions& options) {
    using Make = CudaBackend*(const CudaOptions*);
    return std::unique_ptr<CudaBackend>(device_module_function<Make>("duologue_make_cuda_backend")(&options));
}

}  // namespace duologue
