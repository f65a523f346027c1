// RecordReader: cuts an input file into records, one conversation each, without looking into them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace duologue::preprocess {

enum class Format : std::uint8_t { kAuto, kJsonLines, kText, kEndOfUtterance, kTopicalChat };
[[nodiscard]] std::string_view name_of(Format format);

/// What stands after each turn in kEndOfUtterance.
constexpr std::string_view kEndOfUtteranceMark = "__eou__";

/// The text of one conversation in its format. A JSON-lines or end-of-utterance record is a line, a text record is the
/// lines between two blank ones, a Topical-Chat record is one member of the file's object in braces of its own.
struct RawRecord {
    std::string text;
    std::int64_t line = 0;  ///< where it begins, from 1
    std::string problem;    ///< not empty: the record could not be cut out, for this reason

    void reset(std::int64_t at_line) {
        text.clear();
        problem.clear();
        line = at_line;
    }
};

class RecordReader {
   public:
    /// Longer records are refused, so that memory stays bounded.
    static constexpr std::size_t kMaxRecordBytes = std::size_t{16} << 20;

    virtual ~RecordReader() = default;
    /// The next record into `record`; false at the end of the file. Errors as InputStream::read(), and kData at the
    /// end of a file that cannot be of this format.
    [[nodiscard]] virtual bool next(RawRecord& record) = 0;
    /// Bytes of the file on disk read so far, for progress.
    [[nodiscard]] virtual std::int64_t bytes_taken() const = 0;
};

/// `format` is not kAuto.
[[nodiscard]] std::unique_ptr<RecordReader> open_records(const std::string& path, Format format);

struct DetectedFormat {
    Format format = Format::kText;
    std::string compression;  ///< "plain", "gzip" or "zstd"
    std::string problem;      ///< not empty: no format can be told, for this reason
};
/// Looks at the beginning of the file: JSON with "turns" or "messages", an object of objects, lines with
/// `__eou__`, else text.
[[nodiscard]] DetectedFormat detect_format(const std::string& path);

}  // namespace duologue::preprocess
