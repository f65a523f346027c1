// gzip and Zstandard of a text, as files of these formats hold it.
#pragma once

#include <zlib.h>
#include <zstd.h>

#include <string>

#include "duologue/core/durable_file.h"
#include "support/temporary_folder.h"

namespace duologue {

inline std::string gzip(const std::string& text) {
    const TemporaryFolder folder;
    gzFile file = gzopen((folder / "x.gz").c_str(), "wb");
    gzwrite(file, text.data(), static_cast<unsigned>(text.size()));
    gzclose(file);
    return read_file(folder / "x.gz");
}

inline std::string zstd(const std::string& text) {
    std::string out(ZSTD_compressBound(text.size()), '\0');
    out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
    return out;
}

}  // namespace duologue
