// Where the module lies, and what its loading says.
#include "duologue/core/device_module.h"

#include <dlfcn.h>

#include <filesystem>

#include "duologue/core/error.h"

namespace duologue {

namespace {

constexpr const char* kModule = "libduologue_cuda.so";

std::filesystem::path own_folder() {
    std::error_code unreadable;
    return std::filesystem::read_symlink("/proc/self/exe", unreadable).parent_path();
}

/// "" where there is none.
std::filesystem::path module_path() {
    const std::filesystem::path folder = own_folder();
    for (const auto& path : {folder / kModule, folder / ".." / "lib" / kModule}) {
        std::error_code unreadable;
        if (std::filesystem::exists(path, unreadable)) return path;
    }
    return {};
}

}  // namespace

bool has_device_module() { return !module_path().empty(); }

bool has_device_driver() {
    void* driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
    return driver != nullptr && dlclose(driver) == 0;
}

void* device_module_function(const char* name) {
    const std::string path = module_path().string();
    require(!path.empty(), ErrorCode::kDevice,
            "this program has no CUDA back end: there is no {0} beside it or in ../lib of {1}; build with "
            "-DDUOLOGUE_CUDA=ON, which says what is missing, or choose device.kind=cpu",
            kModule, own_folder().string());
    // Loading it again only counts; it is never unloaded, because what it made may live as long as the program.
    void* module = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (module == nullptr) {
        fail(ErrorCode::kDevice,
             "cannot load the CUDA back end: {}; it needs the libraries of CUDA 13, cuDNN 9 and NCCL 2: name their "
             "folders in LD_LIBRARY_PATH, or choose device.kind=cpu",
             dlerror());
    }
    void* function = dlsym(module, name);
    require(function != nullptr, ErrorCode::kDevice, "{} is not this program's: {}; install both from one build", path,
            dlerror());
    return function;
}

}  // namespace duologue
