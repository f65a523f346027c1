// What is needed against what is there.
#include "duologue/train/readiness.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "duologue/core/report.h"
#include "duologue/data/shards.h"

namespace duologue {

namespace {

std::string gibibytes(std::int64_t bytes) { return size_text(static_cast<double>(bytes)); }

/// Writes and removes a file; the system's reason where that fails, else "".
std::string problem_of_writing(const std::filesystem::path& folder) {
    const std::string path = (folder / ".duologue-doctor").string();
    std::FILE* file = std::fopen(path.c_str(), "wb");
    if (file == nullptr) return std::strerror(errno);
    const bool written = std::fputs("x", file) >= 0 && std::fflush(file) == 0;
    std::string problem = written ? "" : std::strerror(errno);
    std::fclose(file);
    std::remove(path.c_str());
    return problem;
}

}  // namespace

Findings examine_cores(const HostFacts& host, int local_ranks, int threads) {
    const std::string seen = fmt::format("{} usable of {}, {} {} on this host", host.usable_cores, host.online_cores,
                                         local_ranks, local_ranks == 1 ? "rank" : "ranks");
    if (local_ranks > host.online_cores) {
        return {doubtful("cores", seen,
                         fmt::format("start at most {} ranks here: more only wait for each other", host.online_cores))};
    }
    if (threads > 0 && threads * local_ranks > host.online_cores) {
        return {doubtful("cores", fmt::format("{}, {} threads each", seen, threads),
                         fmt::format("set device.threads to {} or to 0", host.online_cores / local_ranks))};
    }
    if (local_ranks == 1 && host.usable_cores < host.online_cores) {
        return {doubtful("cores", seen,
                         "this process is bound to some of the cores; mpirun --bind-to none, or "
                         "taskset -c 0-, gives it all")};
    }
    return {fine("cores", seen)};
}

Findings examine_memory(const HostFacts& host, int local_ranks, std::int64_t needed_bytes) {
    Findings findings;
    const std::string seen =
        fmt::format("{} of {} available", gibibytes(host.available_bytes), gibibytes(host.memory_bytes));
    if (needed_bytes > host.available_bytes) {
        findings.push_back(wrong(ErrorCode::kDevice, "memory",
                                 fmt::format("{}, but the ranks of this host need {}", seen, gibibytes(needed_bytes)),
                                 "make model.width, model.hidden or data.micro_batch_tokens smaller, or start fewer "
                                 "ranks on this host"));
    } else if (needed_bytes > host.available_bytes / 10 * 9) {
        findings.push_back(doubtful("memory",
                                    fmt::format("{}, the ranks of this host need {}", seen, gibibytes(needed_bytes)),
                                    "this leaves less than a tenth free; end other programs, or make "
                                    "data.micro_batch_tokens smaller"));
    } else {
        const std::string need =
            needed_bytes > 0 ? fmt::format(", the ranks of this host need {}", gibibytes(needed_bytes)) : "";
        findings.push_back(fine("memory", seen + need));
    }
    constexpr std::int64_t kShareOfRank = std::int64_t{16} << 20;  // Open MPI's segments and their fast boxes
    if (local_ranks > 1 && host.shared_memory_bytes < local_ranks * kShareOfRank) {
        findings.push_back(
            doubtful("/dev/shm", fmt::format("{} free for {} ranks", gibibytes(host.shared_memory_bytes), local_ranks),
                     fmt::format("give it {}: docker run --shm-size, or mount -o remount,size=... "
                                 "/dev/shm",
                                 gibibytes(local_ranks * kShareOfRank))));
    }
    return findings;
}

std::int64_t output_bytes(std::int64_t parameters, std::int64_t kept) {
    constexpr std::int64_t kCheckpoint = 3 * 4;  // master value and two moments, f32
    constexpr std::int64_t kModel = 2 * 4;       // the old one is there until the new one is whole
    return parameters * (kCheckpoint * (kept + 2) + kModel);
}

Finding examine_output(const std::string& path, std::int64_t needed_bytes) {
    namespace fs = std::filesystem;
    fs::path folder = fs::absolute(path);
    while (!fs::exists(folder) && folder.has_relative_path()) folder = folder.parent_path();
    const std::string problem = problem_of_writing(folder);
    if (!problem.empty()) {
        return wrong(ErrorCode::kInputOutput, "output",
                     fmt::format("cannot write in '{}': {}", folder.string(), problem),
                     "set output.path to a folder of yours on a disk that is writable and not full");
    }
    const std::int64_t free = free_disk_bytes(path);
    const std::string seen = fmt::format("{} free at '{}'", gibibytes(free), path);
    if (needed_bytes == 0) return fine("output", seen);
    const std::string with_need = fmt::format("{}, checkpoints and model need {}", seen, gibibytes(needed_bytes));
    if (free >= needed_bytes) return fine("output", with_need);
    return wrong(ErrorCode::kInputOutput, "output", with_need,
                 "free some space, set output.path to a larger disk, or lower checkpoint.keep_last");
}

Finding examine_data(const std::string& path) {
    try {
        const Manifest manifest = Manifest::load(path);
        (void)load_vocabulary_of(path, manifest);
        for (const ShardEntry& entry : manifest.shards) Shard::check(path, manifest, entry);
        const DataCounts counts = manifest.counts(Split::kTrain);
        return fine("data",
                    fmt::format("'{}': {} shards, {} words, {} conversations and {} tokens to train on", path,
                                manifest.shards.size(), manifest.vocabulary_size, counts.conversations, counts.tokens));
    } catch (const Error& error) {
        return wrong("data", error);
    }
}

}  // namespace duologue
