// Opening inputs one after the other and cutting them into blocks.
#include "block_source.h"

#include <filesystem>
#include <utility>

#include "duologue/core/error.h"

namespace duologue::preprocess {

namespace {

constexpr std::size_t kBlockBytes = std::size_t{1} << 20;

InputFile inspect(const std::string& path, Format wanted, const Log& log) {
    std::error_code problem;
    const bool regular = std::filesystem::is_regular_file(path, problem);
    require(regular, ErrorCode::kInputOutput, "cannot read '{}': {}", path,
            problem ? problem.message() : "it is not a file; name the files inside a folder one by one");
    const DetectedFormat detected = detect_format(path);
    require(wanted != Format::kAuto || detected.problem.empty(), ErrorCode::kData,
            "cannot tell the format of '{}': {}, or name its --format", path, detected.problem);
    const Format format = wanted == Format::kAuto ? detected.format : wanted;
    log.info("{}: {}, {} ({})", path, name_of(format), detected.compression,
             wanted == Format::kAuto ? "detected" : "as asked for");
    return {.path = path, .format = format, .bytes = static_cast<std::int64_t>(std::filesystem::file_size(path))};
}

}  // namespace

std::vector<InputFile> inspect_inputs(const PreprocessOptions& options, const Log& log) {
    std::vector<InputFile> inputs;
    for (const std::string& path : options.inputs) inputs.push_back(inspect(path, options.format, log));
    return inputs;
}

std::optional<Block> BlockSource::next() {
    Block block;
    std::size_t bytes = 0;
    while (current_ < inputs_.size()) {
        const InputFile& input = inputs_[current_];
        if (reader_ == nullptr) reader_ = open_records(input.path, input.format);
        RawRecord record;
        while (bytes < kBlockBytes && reader_->next(record)) {
            bytes += record.text.size();
            block.records.push_back(std::exchange(record, {}));
        }
        block.input = &input;
        block.bytes_done = bytes_of_earlier_inputs_ + reader_->bytes_taken();
        if (bytes >= kBlockBytes) return block;
        bytes_of_earlier_inputs_ += reader_->bytes_taken();
        reader_.reset();
        ++current_;
        if (!block.records.empty()) return block;
    }
    return std::nullopt;
}

}  // namespace duologue::preprocess
