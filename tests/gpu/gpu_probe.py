# Asks the NVIDIA driver for this process's GPUs, with nothing but the driver installed.
import ctypes

from session import CheckFailed

MULTIPROCESSORS, MAJOR, MINOR = 16, 75, 76  # CUdevice_attribute


def gpus(library="libcuda.so.1"):
    """Name, compute capability and memory of each GPU, and the CUDA version of the driver. CheckFailed without any."""
    try:
        cuda = ctypes.CDLL(library)
    except OSError:
        raise CheckFailed(f"no GPU: the driver's {library} is not on this machine") from None

    def call(function, *arguments):
        status = getattr(cuda, function)(*arguments)
        if status != 0:
            raise CheckFailed(f"no GPU: the driver's {function} gives error {status}")

    def attribute(device, which):
        value = ctypes.c_int()
        call("cuDeviceGetAttribute", ctypes.byref(value), which, device)
        return value.value

    version, count = ctypes.c_int(), ctypes.c_int()
    call("cuInit", 0)
    call("cuDriverGetVersion", ctypes.byref(version))
    call("cuDeviceGetCount", ctypes.byref(count))
    found = []
    for index in range(count.value):
        device, name, size = ctypes.c_int(), ctypes.create_string_buffer(256), ctypes.c_size_t()
        call("cuDeviceGet", ctypes.byref(device), index)
        call("cuDeviceGetName", name, len(name), device)
        call("cuDeviceTotalMem_v2", ctypes.byref(size), device)
        found.append(
            {
                "name": name.value.decode(),
                "capability": 10 * attribute(device, MAJOR) + attribute(device, MINOR),
                "multiprocessors": attribute(device, MULTIPROCESSORS),
                "memory_bytes": size.value,
                "driver_cuda": f"{version.value // 1000}.{version.value % 1000 // 10}",
            }
        )
    if not found:
        raise CheckFailed("no GPU: the driver lists none")
    return found
