// InputStream: the bytes of a file, decompressed when it begins like a gzip or a Zstandard file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace duologue::preprocess {

class InputStream {
   public:
    virtual ~InputStream() = default;
    /// Fills `out` from its beginning and returns how many bytes it got; 0 only at the end. kInputOutput where the
    /// file cannot be read, kData where compressed data is damaged or ends too early.
    [[nodiscard]] virtual std::size_t read(std::span<char> out) = 0;
    /// Bytes of the file on disk read so far, for progress.
    [[nodiscard]] virtual std::int64_t bytes_taken() const = 0;
    /// "plain", "gzip" or "zstd".
    [[nodiscard]] virtual std::string_view compression() const = 0;
};

/// Opens a file; what it begins with tells whether it is compressed, its name does not matter. kInputOutput.
[[nodiscard]] std::unique_ptr<InputStream> open_input(const std::string& path);

}  // namespace duologue::preprocess
