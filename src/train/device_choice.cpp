// One GPU for each rank of a host, or a sentence that says why not.
#include "duologue/train/device_choice.h"

#include <algorithm>
#include <set>

#include "duologue/core/error.h"

namespace duologue {

namespace {

constexpr const char* kWhyNone =
    "no driver is loaded, CUDA_VISIBLE_DEVICES shows no card, its cards are older than sm_80, or CUDA's libraries are "
    "missing";

/// The ranks of one host.
struct HostRanks {
    std::vector<const RankView*> views;
    std::size_t own = 0;  ///< the place among them of the rank that asks
};

HostRanks ranks_of_host(const std::vector<RankView>& ranks, std::size_t rank) {
    HostRanks host;
    for (std::size_t other = 0; other < ranks.size(); ++other) {
        if (ranks[other].host != ranks[rank].host) continue;
        if (other == rank) host.own = host.views.size();
        host.views.push_back(&ranks[other]);
    }
    return host;
}

// A launcher has shown every rank of the host a GPU of its own.
bool dealt_out(const HostRanks& host) {
    std::set<std::string> different;
    for (const RankView* view : host.views) {
        if (view->gpus.size() != 1) return false;
        different.insert(view->gpus.front().id);
    }
    return different.size() == host.views.size();
}

int gpu_of(const HostRanks& host, const DistributedConfig& distributed) {
    const RankView& view = *host.views[host.own];
    if (dealt_out(host)) return view.gpus.front().index;
    const std::size_t ranks = host.views.size();
    const std::size_t gpus = view.gpus.size();
    require(
        ranks <= gpus || distributed.share_device, ErrorCode::kDevice,
        "{} has {} {} for {} ranks; start at most {} there (mpirun --map-by ppr:{}:node), choose device.kind=cpu, or "
        "let ranks share a GPU with distributed.share_device=true, which is for tests and slow",
        view.host, gpus, gpus == 1 ? "GPU" : "GPUs", ranks, gpus, gpus);
    return view.gpus[host.own % gpus].index;
}

}  // namespace

DeviceChoice choose_device(const DeviceConfig& device, const DistributedConfig& distributed,
                           const std::vector<RankView>& ranks, int rank) {
    const auto has_none = [](const RankView& view) { return view.gpus.empty(); };
    const auto without = std::find_if(ranks.begin(), ranks.end(), has_none);
    const bool nobody = std::all_of(ranks.begin(), ranks.end(), has_none);
    if (device.kind == DeviceKind::kCpu || (device.kind == DeviceKind::kAuto && nobody)) return {};
    require(without == ranks.end(), ErrorCode::kDevice,
            "device.kind = {}, but rank {} on {} can use no GPU{}: {}; choose device.kind=cpu, or other hosts",
            device.kind == DeviceKind::kAuto ? "auto" : "cuda", without - ranks.begin(),
            without == ranks.end() ? "" : without->host, nobody ? "" : " while others can", kWhyNone);
    return {.kind = DeviceKind::kCuda,
            .gpu = gpu_of(ranks_of_host(ranks, static_cast<std::size_t>(rank)), distributed)};
}

}  // namespace duologue
