// Cards that need not be there, as cuDNN describes them.
#pragma once

#include <fmt/format.h>

#include <ostream>
#include <string>

namespace duologue {

/// What differs between the cards that plans are checked for.
struct Card {
    const char* name = "";
    int capability = 0;
    int multiprocessors = 0;
    int shared_bytes_per_block = 0;  ///< what a kernel can ask for
    long long l2_bytes = 0;
    long long memory_bytes = 0;
};

inline std::ostream& operator<<(std::ostream& stream, const Card& card) { return stream << card.name; }

inline constexpr Card kA100{.name = "A100",
                            .capability = 80,
                            .multiprocessors = 108,
                            .shared_bytes_per_block = 166912,
                            .l2_bytes = 41943040,
                            .memory_bytes = 85899345920};
inline constexpr Card kH200{.name = "H200",
                            .capability = 90,
                            .multiprocessors = 132,
                            .shared_bytes_per_block = 232448,
                            .l2_bytes = 62914560,
                            .memory_bytes = 150754820096};

/// JSON, with the keys that cuDNN 9.19 reads.
inline std::string device_properties(const Card& card) {
    return fmt::format(
        R"({{"deviceVer":{},"driverVer":13000,"cudaDeviceId":0,"maxGridSize":[2147483647,65535,65535],)"
        R"("maxBlockSize":[1024,1024,64],"regsPerBlock":65536,"multiProcessorCount":{},"warpSize":32,)"
        R"("maxSharedMemoryPerBlock":49152,"maxSharedMemoryPerBlockOptin":{},"reservedSharedMemoryPerBlock":1024,)"
        R"("maxRegistersPerSM":65536,"maxCtasPerSM":32,"maxThreadsPerBlock":1024,"maxThreadsPerSM":2048,)"
        R"("pciDeviceId":0,"isTccDriver":0,"supportCoopLaunch":1,"smClockRateKHz":1980000,)"
        R"("memClockRateKHz":2619000,"l2CacheSize":{},"deviceName":"{}","totalGlobalMem":{}}})",
        10 * card.capability, card.multiprocessors, card.shared_bytes_per_block, card.l2_bytes, card.name,
        card.memory_bytes);
}

}  // namespace duologue
