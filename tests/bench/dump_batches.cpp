// Writes the batches that the trainer would train on, for the PyTorch peer: dump_batches CONFIG STEPS FILE
// [--section.key=value ...]
//
// The file is a sequence of records of little-endian 32-bit integers: step (-1: a validation batch), sequences S,
// source rows N, target rows M; source offsets [S+1], source tokens [N], target offsets [S+1], target tokens [M],
// labels [M].
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "duologue/config/config.h"
#include "duologue/core/error.h"
#include "duologue/data/batches.h"

namespace duologue {
namespace {

void write_words(std::ofstream& file, const std::vector<std::int32_t>& words) {
    file.write(reinterpret_cast<const char*>(words.data()),
               static_cast<std::streamsize>(words.size() * sizeof(std::int32_t)));
}

void write_batch(std::ofstream& file, std::int64_t step, const Batch& batch) {
    write_words(file, {static_cast<std::int32_t>(step), static_cast<std::int32_t>(batch.target.sequences()),
                       static_cast<std::int32_t>(batch.source.rows()), static_cast<std::int32_t>(batch.target.rows())});
    for (const auto* words :
         {&batch.source.offsets, &batch.source.tokens, &batch.target.offsets, &batch.target.tokens, &batch.labels}) {
        write_words(file, *words);
    }
}

void dump(const Config& config, std::int64_t steps, const std::string& path) {
    std::ofstream file(path, std::ios::binary);
    for (const Batch& batch : load_validation_batches(config.data, config.model.kind)) write_batch(file, -1, batch);
    const auto data = open_training_data(config.data, config.model.kind, config.train.seed);
    DataPosition position;
    for (std::int64_t step = 0; step < steps; ++step) {
        const GlobalStep global = data->step(position, config.train.micro_batches_per_step, 0, 1);
        for (const Batch& batch : global.micro_batches) write_batch(file, step, batch);
        position = global.next;
    }
    file.flush();
    require(file.good(), ErrorCode::kInputOutput, "cannot write '{}'", path);
}

void run(std::vector<std::string> arguments) {
    Config config;
    require(!arguments.empty(), ErrorCode::kConfiguration, "usage: dump_batches CONFIG STEPS FILE [--key=value ...]");
    const std::vector<Override> overrides = take_overrides(arguments);
    read_config_file(config, arguments.front());
    apply_overrides(config, overrides);
    require(arguments.size() == 3, ErrorCode::kConfiguration, "three arguments are expected, not {}", arguments.size());
    dump(config, std::stoll(arguments[1]), arguments[2]);
}

}  // namespace
}  // namespace duologue

int main(int argc, char** argv) {
    try {
        duologue::run({argv + 1, argv + argc});
        return EXIT_SUCCESS;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "dump_batches: %s\n", error.what());
        return EXIT_FAILURE;
    }
}
