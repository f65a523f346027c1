// duologue doctor: whether this machine, or these machines under mpirun, are fit for a training, and what to do if not.
#include <algorithm>

#include "commands/program.h"
#include "duologue/arguments/config_options.h"
#include "duologue/backend/examination.h"
#include "duologue/comm/examination.h"
#include "duologue/core/finding.h"
#include "duologue/core/hash.h"
#include "duologue/core/host.h"
#include "duologue/data/inspection.h"
#include "duologue/data/shards.h"
#include "duologue/train/cost.h"
#include "duologue/train/readiness.h"

namespace duologue {

namespace {

struct DoctorArguments {
    std::string config;
    ReportStyle style = ReportStyle::kText;
};

/// Where this process stands among the ranks; alone without a launcher.
struct Place {
    int rank = 0;
    int ranks = 1;
    int local_rank = 0;
    int local_ranks = 1;
    std::string host;
};

Place place_in(const std::optional<World>& world) {
    if (!world) return {};
    return {.rank = world->rank(),
            .ranks = world->size(),
            .local_rank = world->local_rank(),
            .local_ranks = world->local_size(),
            .host = world->host()};
}

void append(Findings& all, Findings more) {
    all.insert(all.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
}

/// What the run that the configuration describes needs; 0 where that is not known without data.
struct Needs {
    std::int64_t memory_bytes = 0;  ///< on this host
    std::int64_t output_bytes = 0;
};

Needs needs_of(const Config& config, const Place& place) {
    if (config.data.path.empty()) return {};
    const Manifest manifest = Manifest::load(config.data.path);
    const BatchCapacity capacity = batch_capacity(config.data, config.model.kind);
    const std::unique_ptr<Backend> device = make_cpu_backend(1);
    const TrainingPlan plan = plan_training(*device, {.model = config.model,
                                                      .vocabulary_size = manifest.vocabulary_size,
                                                      .precision = config.train.precision,
                                                      .capacity = capacity});
    Needs needs{.output_bytes = output_bytes(plan.parameters, config.checkpoint.keep_last)};
    for (const MemoryKind& kind :
         plan_memory(plan, {.config = config, .capacity = capacity, .ranks = place.ranks, .manifest = &manifest})) {
        if (config.device.kind == DeviceKind::kCuda && kind.place == MemoryPlace::kDevice) continue;
        needs.memory_bytes += kind.bytes * (kind.holders == MemoryHolders::kEveryRank ? place.local_ranks : 1);
    }
    return needs;
}

/// Once per host: what its ranks share.
Findings examine_host(const Config& config, const Place& place) {
    const HostFacts host = host_facts();
    Findings findings{examine_mpi(), examine_hdf5()};
    append(findings, examine_cores(host, place.local_ranks, config.device.threads));
    append(findings, examine_cpu(config.device.threads));
    Needs needs;
    if (!config.data.path.empty()) {
        findings.push_back(examine_data(config.data.path));
        if (findings.back().verdict == Verdict::kOk) needs = needs_of(config, place);
    }
    append(findings, examine_memory(host, place.local_ranks, needs.memory_bytes));
    if (place.rank == 0) findings.push_back(examine_output(config.output.path, needs.output_bytes));
    return findings;
}

Findings examine_this_rank(const Config& config, const Place& place) {
    Findings findings;
    if (place.local_rank == 0) findings = examine_host(config, place);
    if (config.device.kind != DeviceKind::kCpu) {
        const bool wanted = config.device.kind == DeviceKind::kCuda;
        append(findings, examine_cuda(place.local_rank, place.local_ranks, wanted ? GpuWanted::kYes : GpuWanted::kNo));
    }
    return findings;
}

Report as_report(const Findings& findings) {
    Report rows = Report::array();
    for (const Finding& finding : findings) {
        rows.push_back({{"verdict", name_of(finding.verdict)},
                        {"topic", finding.topic},
                        {"text", finding.text},
                        {"remedy", finding.remedy},
                        {"exit_status", finding.verdict == Verdict::kFailure ? static_cast<int>(finding.code) : 0}});
    }
    return rows;
}

Findings from_report(const Report& rows) {
    Findings findings;
    for (const Report& row : rows) {
        Finding& finding = findings.emplace_back();
        finding.topic = row.at("topic");
        finding.text = row.at("text");
        finding.remedy = row.at("remedy");
        if (row.at("exit_status") != 0) finding.code = static_cast<ErrorCode>(row.at("exit_status").get<int>());
        for (const Verdict verdict : {Verdict::kOk, Verdict::kWarning, Verdict::kFailure}) {
            if (name_of(verdict) == row.at("verdict")) finding.verdict = verdict;
        }
    }
    return findings;
}

/// What every rank found, each fact once: what is the same on the first rank needs no second line, what is not is
/// said with the rank and host it comes from.
Findings merged(const std::vector<std::string>& of_ranks, const std::vector<std::string>& hosts) {
    const Findings first = from_report(Report::parse(of_ranks[0]));
    Findings all = first;
    for (std::size_t rank = 1; rank < of_ranks.size(); ++rank) {
        for (Finding& finding : from_report(Report::parse(of_ranks[rank]))) {
            if (std::find(first.begin(), first.end(), finding) != first.end()) continue;
            finding.topic = fmt::format("{} (rank {} on {})", finding.topic, rank, hosts[rank]);
            all.push_back(std::move(finding));
        }
    }
    return all;
}

/// What has to be the same on every host for its ranks to train together.
Finding compare_hosts(const std::vector<std::string>& facts, const std::vector<std::string>& hosts) {
    for (std::size_t rank = 1; rank < facts.size(); ++rank) {
        if (facts[rank] == facts[0]) continue;
        return wrong(ErrorCode::kConfiguration, "hosts differ",
                     fmt::format("{} has {}, {} has {}", hosts[rank], facts[rank], hosts[0], facts[0]),
                     "install the same program and copy the same data to every host");
    }
    return fine("hosts", fmt::format("the same everywhere: {}", facts[0]));
}

std::string shared_facts(const Config& config) {
    std::string version = "program " DUOLOGUE_VERSION;
    if (config.data.path.empty()) return version;
    try {
        const Manifest manifest = Manifest::load(config.data.path);
        return fmt::format("{}, data {}", version, hash_text(fnv1a(manifest.serialize())));
    } catch (const Error&) {  // said in full where the data are examined
        return version + ", data that cannot be read";
    }
}

Finding map_of_ranks(const std::vector<std::string>& hosts) {
    std::string text;
    for (std::size_t rank = 0; rank < hosts.size(); ++rank) {
        text += fmt::format("{}{} on {}", rank == 0 ? "" : ", ", rank, hosts[rank]);
    }
    return fine("ranks", text);
}

/// All ranks' findings on rank 0, and on every rank what the whole adds up to.
Findings examine_all(const Config& config, World& world, const Place& place) {
    const std::vector<std::string> of_ranks = world.gather_all(as_report(examine_this_rank(config, place)).dump());
    const std::vector<std::string> hosts = world.gather_all(place.host);
    const std::vector<std::string> facts = world.gather_all(shared_facts(config));
    constexpr std::int64_t kLeastBytes = std::int64_t{4} << 20;
    const Finding timed = examine_all_reduce(world, std::max(config.distributed.bucket_bytes, kLeastBytes));
    Findings findings = merged(of_ranks, hosts);
    findings.push_back(map_of_ranks(hosts));
    findings.push_back(compare_hosts(facts, hosts));
    findings.push_back(timed);
    return from_report(Report::parse(world.broadcast(as_report(findings).dump())));
}

int doctor(Program& program, const DoctorArguments& arguments) {
    if (program.environment.started != Started::kDirectly) {  // before the configuration, as in a training
        program.world.emplace(&program.argc, &program.argv, Launch{.rank = program.environment.rank});
    }
    const Config config = effective_config(program, arguments.config);
    if (program.world) program.world->set_timeout_seconds(config.distributed.timeout_seconds);
    const Place place = place_in(program.world);
    const Findings findings =
        program.world ? examine_all(config, *program.world, place) : examine_this_rank(config, place);
    program.world.reset();
    if (place.rank == 0) {
        const int status = exit_status_of(findings);
        const Report report{{"findings", as_report(findings)}, {"exit_status", status}};
        fmt::print("{}", arguments.style == ReportStyle::kText ? render(findings) : render(report, arguments.style));
    }
    return exit_status_of(findings);
}

}  // namespace

void declare_doctor(Program& program) {
    const auto arguments = std::make_shared<DoctorArguments>();
    Command& command = program.line.add_command("doctor", "whether this machine is fit for a training");
    add_config_file_option(command, arguments->config);
    add_json_option(command, arguments->style);
    add_config_options(command, "", program.overrides);
    command.notes =
        "With --data.path the needs of the training are compared with what is there. Under mpirun every host is "
        "examined, all have to have the same program and data, and a sum over the ranks is timed. Exit status 0, or "
        "that of the first failure.";
    command.run = [&program, arguments] { return doctor(program, *arguments); };
}

}  // namespace duologue
