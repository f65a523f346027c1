# How much of a GPU's memory programs take: the driver's own count, read twenty times a second while they run.
import ctypes
import threading


class _Memory(ctypes.Structure):  # nvmlMemory_t
    _fields_ = [("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong)]


class MemoryWatch:
    """with MemoryWatch() as watch: ...; then watch.peak_bytes is the most that was in use beyond what was in use before.
    It is of the whole GPU: nothing else may run there. Contexts, libraries' code and fragments count, as they do when
    memory runs out."""

    def __init__(self, index=0, library="libnvidia-ml.so.1"):
        self.nvml = ctypes.CDLL(library)
        self.device = ctypes.c_void_p()
        self._call("nvmlInit_v2")
        self._call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(self.device))
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def _call(self, function, *arguments):
        status = getattr(self.nvml, function)(*arguments)
        if status != 0:
            raise OSError(f"{function} gives error {status}")

    def _used(self):
        memory = _Memory()
        self._call("nvmlDeviceGetMemoryInfo", self.device, ctypes.byref(memory))
        return memory.used

    def _watch(self):
        while not self.ended.wait(0.05):
            self.peak = max(self.peak, self._used())

    def __enter__(self):
        self.before = self.peak = self._used()
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()

    @property
    def peak_bytes(self):
        return self.peak - self.before
