// Inputs and blocks: the input files, their formats, and their records in portions of about one mebibyte.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "duologue/core/log.h"
#include "options.h"
#include "readers/record_reader.h"

namespace duologue::preprocess {

struct InputFile {
    std::string path;
    Format format = Format::kText;
    std::int64_t bytes = 0;  ///< on disk
};

/// Looks at every input and says which format it was taken for. kInputOutput where one cannot be opened.
[[nodiscard]] std::vector<InputFile> inspect_inputs(const PreprocessOptions& options, const Log& log);

/// Records of one file that are worked on together. Where blocks begin and end depends on the files only.
struct Block {
    const InputFile* input = nullptr;
    std::vector<RawRecord> records;
    std::int64_t bytes_done = 0;  ///< of all inputs, on disk, when it was read
};

class BlockSource {
   public:
    explicit BlockSource(const std::vector<InputFile>& inputs) : inputs_(inputs) {}
    /// The next block, none at the end of the last file.
    [[nodiscard]] std::optional<Block> next();

   private:
    const std::vector<InputFile>& inputs_;
    std::size_t current_ = 0;
    std::unique_ptr<RecordReader> reader_;
    std::int64_t bytes_of_earlier_inputs_ = 0;
};

}  // namespace duologue::preprocess
