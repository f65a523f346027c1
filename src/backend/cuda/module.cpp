// The functions that the program finds in libduologue_cuda.so by name. They throw Errors.
#include "backend/cuda/entry.h"

extern "C" {

__attribute__((visibility("default"))) int duologue_cuda_device_count() { return duologue::cuda::device_count(); }

__attribute__((visibility("default"))) void duologue_cuda_devices(std::vector<duologue::CudaDevice>* devices) {
    *devices = duologue::cuda::devices();
}

__attribute__((visibility("default"))) duologue::CudaBackend* duologue_make_cuda_backend(
    const duologue::CudaOptions* options) {
    return duologue::cuda::make_backend(*options).release();
}
}
