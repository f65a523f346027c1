// Kernel times: a library that NVIDIA's driver loads into a program and that writes down when each of its kernels ran.
//
// CUDA_INJECTION64_PATH names it to the driver. At the program's end, kernel_times.tsv in the current folder has a line
// "begin end name", nanoseconds, for each kernel, copy and fill, also of those that a CUDA graph ran.
#include <cupti.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

namespace {

struct Interval {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    std::size_t name = 0;
};

/// Everything that ran. CUPTI hands over records on a thread of its own.
class Records {
   public:
    void add(std::uint64_t begin, std::uint64_t end, const std::string& name) {
        const std::lock_guard lock(mutex_);
        const auto [place, is_new] = places_.try_emplace(name, names_.size());
        if (is_new) names_.push_back(name);
        intervals_.push_back({.begin = begin, .end = end, .name = place->second});
    }
    void write(const char* path) {
        const std::lock_guard lock(mutex_);
        std::FILE* file = std::fopen(path, "w");
        if (file == nullptr) {
            std::fprintf(stderr, "kernel_times: cannot write %s\n", path);
            return;
        }
        for (const Interval& interval : intervals_) {
            std::fprintf(file, "%llu\t%llu\t%s\n", static_cast<unsigned long long>(interval.begin),
                         static_cast<unsigned long long>(interval.end), names_[interval.name].c_str());
        }
        std::fclose(file);
    }

   private:
    std::mutex mutex_;
    std::vector<std::string> names_;
    std::unordered_map<std::string, std::size_t> places_;
    std::vector<Interval> intervals_;
};

// CUPTI's callbacks are handed nothing of ours. Never destroyed: records come until the process ends.
Records& records() {
    static auto* const all = new Records;
    return *all;
}

bool succeeded(CUptiResult status, const char* what) {
    if (status == CUPTI_SUCCESS) return true;
    const char* reason = nullptr;
    cuptiGetResultString(status, &reason);
    std::fprintf(stderr, "kernel_times: CUPTI failed in %s: %s\n", what, reason == nullptr ? "unknown" : reason);
    return false;
}

void CUPTIAPI give_buffer(std::uint8_t** buffer, std::size_t* bytes, std::size_t* most_records) {
    constexpr std::size_t kBytes = std::size_t{4} << 20;
    *buffer = static_cast<std::uint8_t*>(std::aligned_alloc(8, kBytes));
    *bytes = *buffer == nullptr ? 0 : kBytes;
    *most_records = 0;  // as many as fit
}

void take_record(const CUpti_Activity* record) {
    if (record->kind == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) {
        const auto* kernel = reinterpret_cast<const CUpti_ActivityKernel10*>(record);
        records().add(kernel->start, kernel->end, kernel->name);
    } else if (record->kind == CUPTI_ACTIVITY_KIND_MEMCPY) {
        const auto* copy = reinterpret_cast<const CUpti_ActivityMemcpy6*>(record);
        records().add(copy->start, copy->end, "memcpy");
    } else if (record->kind == CUPTI_ACTIVITY_KIND_MEMSET) {
        const auto* fill = reinterpret_cast<const CUpti_ActivityMemset4*>(record);
        records().add(fill->start, fill->end, "memset");
    }
}

void CUPTIAPI take_buffer(CUcontext /*context*/, std::uint32_t /*stream*/, std::uint8_t* buffer, std::size_t /*bytes*/,
                          std::size_t valid_bytes) {
    CUpti_Activity* record = nullptr;
    while (cuptiActivityGetNextRecord(buffer, valid_bytes, &record) == CUPTI_SUCCESS) take_record(record);
    std::free(buffer);
}

void write_at_exit() {
    succeeded(cuptiActivityFlushAll(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED), "flushing");
    records().write("kernel_times.tsv");
}

}  // namespace

/// The driver calls this once, when the program initialises CUDA. Returns 1 where records will be written.
extern "C" int InitializeInjection() {
    for (const CUpti_ActivityKind kind :
         {CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL, CUPTI_ACTIVITY_KIND_MEMCPY, CUPTI_ACTIVITY_KIND_MEMSET}) {
        if (!succeeded(cuptiActivityEnable(kind), "enabling")) return 0;
    }
    if (!succeeded(cuptiActivityRegisterCallbacks(give_buffer, take_buffer), "registering")) return 0;
    return std::atexit(write_at_exit) == 0 ? 1 : 0;
}
