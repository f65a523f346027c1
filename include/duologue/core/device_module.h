// The module of the program that needs CUDA's libraries: loaded when a GPU is asked for, so that nothing else needs
// them.
#pragma once

namespace duologue {

/// Whether there is such a module: it is built where CUDA is, and installed with the program.
[[nodiscard]] bool has_device_module();

/// Whether this machine has a driver of GPUs for it. Loads the driver alone, and not CUDA's libraries, which take 180
/// MiB.
[[nodiscard]] bool has_device_driver();

/// The function `name` (extern "C") of libduologue_cuda.so, which lies beside the program or in ../lib of it. Error
/// kDevice where this build has no such module, or where it cannot be loaded: then with what the loader misses.
[[nodiscard]] void* device_module_function(const char* name);

/// The same as a pointer to a function of this type.
template <class Function>
[[nodiscard]] Function* device_module_function(const char* name) {
    return reinterpret_cast<Function*>(device_module_function(name));
}

}  // namespace duologue
