// duologue plan: what a training run will take, before it starts.
#include <algorithm>

#include "commands/program.h"
#include "duologue/arguments/config_options.h"
#include "duologue/backend/matmul_rate.h"
#include "duologue/core/error.h"
#include "duologue/data/shards.h"
#include "duologue/train/cost.h"
#include "model/head.h"

namespace duologue {

namespace {

struct PlanArguments {
    std::string config;
    std::int64_t vocabulary_size = 0;
    int ranks = 1;
    ReportStyle style = ReportStyle::kText;
};

/// What Open MPI 4.1 holds once it has begun: 8 MiB were seen in each of two ranks, 10 MiB in one alone. A plan starts
/// none.
constexpr std::int64_t kMpiBytes = std::int64_t{10} << 20;

/// Several ranks sum gradients bucket by bucket, of which MPI has a copy meanwhile.
std::int64_t mpi_bytes(const DistributedConfig& config, const TrainingPlan& plan, int ranks) {
    return kMpiBytes + (ranks == 1 ? 0 : std::min(config.bucket_bytes, plan.elements * size_of(DataType::kF32)));
}

/// The linear layers of the model: of the encoder, of the decoder, of the attention between them, and the output.
std::vector<MatmulShape> layers_of(const Backend& device, const Config& config, const BatchCapacity& capacity,
                                   std::int64_t words, DataType type) {
    const std::int64_t width = config.model.width;
    const std::int64_t hidden = config.model.hidden;
    std::vector<MatmulShape> layers;
    for (const std::int64_t rows : {capacity.source_rows, capacity.target_rows}) {
        layers.push_back({.rows = rows, .inner = width, .columns = 3 * width});
        layers.push_back({.rows = rows, .inner = width, .columns = width});
        layers.push_back({.rows = rows, .inner = width, .columns = hidden});
        layers.push_back({.rows = rows, .inner = hidden, .columns = width});
    }
    layers.push_back({.rows = capacity.source_rows, .inner = width, .columns = 2 * width});
    const std::int64_t logits_rows = most_logits_rows(device, words, type);
    layers.push_back({.rows = std::min(capacity.target_rows, logits_rows), .inner = width, .columns = words});
    return layers;
}

/// No allocation of ours, so only a measurement can tell.
std::int64_t program_bytes(Backend& device, const Config& config, const BatchCapacity& capacity, std::int64_t words) {
    const DataType type = config.train.precision == Precision::kBf16 ? DataType::kBf16 : DataType::kF32;
    return measure_library_bytes(device, layers_of(device, config, capacity, words, type), type);
}

std::optional<Manifest> manifest_of(const Config& config) {
    if (config.data.path.empty()) return std::nullopt;
    return Manifest::load(config.data.path);
}

std::int64_t vocabulary_size(const PlanArguments& arguments, const std::optional<Manifest>& manifest) {
    require(manifest || arguments.vocabulary_size > 0, ErrorCode::kConfiguration,
            "how many words the model has is not known: give --data.path=DIR, or --vocabulary-size N to plan without "
            "data");
    require(!manifest || arguments.vocabulary_size == 0 || arguments.vocabulary_size == manifest->vocabulary_size,
            ErrorCode::kConfiguration, "--vocabulary-size is {}, but the data has {} words; leave it out",
            arguments.vocabulary_size, manifest ? manifest->vocabulary_size : 0);
    return manifest ? manifest->vocabulary_size : arguments.vocabulary_size;
}

/// One row per kind; of several ranks, rank 0 holds most.
Report describe_memory(const std::vector<MemoryKind>& kinds, int ranks) {
    Report rows = Report::array();
    std::int64_t first = 0;
    std::int64_t other = 0;
    const auto add = [&rows, ranks](const std::string& name, const char* place, std::int64_t of_first,
                                    std::int64_t of_other) {
        Report row{{"kind", name}, {"place", place}, {ranks == 1 ? "bytes" : "rank_0_bytes", of_first}};
        if (ranks > 1) row["other_ranks_bytes"] = of_other;
        rows.push_back(row);
    };
    for (const MemoryKind& kind : kinds) {
        const std::int64_t of_other = kind.holders == MemoryHolders::kEveryRank ? kind.bytes : 0;
        add(kind.name, kind.place == MemoryPlace::kDevice ? "device" : "host", kind.bytes, of_other);
        first += kind.bytes;
        other += of_other;
    }
    add("all", "", first, other);
    return rows;
}

Report describe_step(const StepCost& cost, int ranks) {
    const double flops = cost.matmul_flops + cost.attention_flops;
    Report report{{"of", cost.steps_counted > 0 ? fmt::format("the mean of {} steps of the data", cost.steps_counted)
                                                : "micro-batches filled with the longest sequences"},
                  {"source_tokens", cost.source_tokens},
                  {"target_tokens", cost.target_tokens},
                  {"matmul_flops", cost.matmul_flops},
                  {"attention_flops", cost.attention_flops},
                  {"flops", flops},
                  {"flops_of_a_rank", flops / ranks}};
    if (cost.steps_per_epoch > 0) report["steps_per_epoch"] = cost.steps_per_epoch;
    return report;
}

StepCost step_cost(const Config& config, const TrainingPlan& plan, const BatchCapacity& capacity) {
    const std::int64_t micro_batches = config.train.micro_batches_per_step;
    if (config.data.path.empty()) return full_step_cost(plan, capacity, micro_batches);
    const auto data = open_training_data(config.data, config.model.kind, config.train.seed);
    return typical_step_cost(plan, *data, micro_batches);
}

int plan(const Program& program, const PlanArguments& arguments) {
    const Config config = effective_config(program, arguments.config);
    require_shared_evenly(config.train.micro_batches_per_step, arguments.ranks);
    const std::unique_ptr<Backend> device = open_device(config.device, arguments.ranks);
    const BatchCapacity capacity = batch_capacity(config.data, config.model.kind);
    const std::optional<Manifest> manifest = manifest_of(config);
    const std::int64_t words = vocabulary_size(arguments, manifest);
    std::optional<Vocabulary> vocabulary;  // as training has it: it is in what this process is found to hold
    if (manifest) vocabulary = load_vocabulary_of(config.data.path, *manifest);
    const std::int64_t held_by_program = program_bytes(*device, config, capacity, words);
    const TrainingPlan training = plan_training(
        *device,
        {.model = config.model, .vocabulary_size = words, .precision = config.train.precision, .capacity = capacity});
    std::vector<MemoryKind> kinds = plan_memory(training, {.config = config,
                                                           .capacity = capacity,
                                                           .ranks = arguments.ranks,
                                                           .manifest = manifest ? &*manifest : nullptr});
    kinds.push_back({.name = "program, libraries and vocabulary", .bytes = held_by_program});
    kinds.push_back({.name = "MPI", .bytes = mpi_bytes(config.distributed, training, arguments.ranks)});
    const Report report{{"device", device->description()},
                        {"ranks", arguments.ranks},
                        {"parameters", training.parameters},
                        {"vocabulary_size", words},
                        {"memory", describe_memory(kinds, arguments.ranks)},
                        {"step", describe_step(step_cost(config, training, capacity), arguments.ranks)}};
    fmt::print("{}", render(report, arguments.style));
    return 0;
}

}  // namespace

void declare_plan(Program& program) {
    const auto arguments = std::make_shared<PlanArguments>();
    Command& command =
        program.line.add_command("plan", "parameters, memory by kind and FLOPs per step of a training, beforehand");
    add_config_file_option(command, arguments->config);
    command.integer("--ranks", arguments->ranks, between(1, 1 << 20), "ranks that share a step");
    command
        .integer("--vocabulary-size", arguments->vocabulary_size, between(5, 1 << 30),
                 "words of the model, special tokens included, to plan without --data.path")
        .default_value.clear();
    add_json_option(command, arguments->style);
    add_config_options(command, "", program.overrides);
    command.notes =
        "Memory is what each rank holds at its peak. \"program, libraries and vocabulary\" is measured: what this very "
        "process holds once its libraries have multiplied as in a training; \"MPI\" is what Open MPI 4.1 was seen to "
        "hold; everything else is counted. FLOPs are of forward and backward passes, 2 per multiply-add; with "
        "--data.path those of real steps, else of the most that a step can hold.";
    command.run = [&program, arguments] { return plan(program, *arguments); };
}

}  // namespace duologue
