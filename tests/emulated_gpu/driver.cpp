// libcuda.so.1 of an emulated GPU: what tests/gpu/gpu_probe.py asks a driver for.
#include <cstddef>
#include <cstdio>

extern "C" {

int cuInit(unsigned /*flags*/) { return 0; }
int cuDriverGetVersion(int* version) {
    *version = 13000;
    return 0;
}
int cuDeviceGetCount(int* count) {
    *count = 1;
    return 0;
}
int cuDeviceGet(int* device, int index) {
    *device = index;
    return 0;
}
int cuDeviceGetName(char* name, int bytes, int /*device*/) {
    std::snprintf(name, static_cast<std::size_t>(bytes), "an emulated GPU");
    return 0;
}
int cuDeviceTotalMem_v2(std::size_t* bytes, int /*device*/) {
    *bytes = std::size_t{16} << 30;
    return 0;
}
// CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, ..._COMPUTE_CAPABILITY_MAJOR, ..._MINOR
int cuDeviceGetAttribute(int* value, int attribute, int /*device*/) {
    *value = attribute == 16 ? 4 : attribute == 75 ? 9 : 0;
    return 0;
}

}  // extern "C"
