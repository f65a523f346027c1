// Plain, gzip (zlib) and Zstandard files behind one read().
#include "readers/input_stream.h"

#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "duologue/core/error.h"

namespace duologue::preprocess {

namespace {

constexpr std::size_t kPieceBytes = 256 * 1024;

/// A file on disk with a look-ahead buffer.
class DiskFile {
   public:
    explicit DiskFile(std::string path)
        : path_(std::move(path)), descriptor_(::open(path_.c_str(), O_RDONLY | O_CLOEXEC)) {
        require(descriptor_ >= 0, ErrorCode::kInputOutput, "cannot open '{}': {}", path_, std::strerror(errno));
    }
    ~DiskFile() {
        if (descriptor_ >= 0) ::close(descriptor_);
    }
    DiskFile(const DiskFile&) = delete;
    DiskFile& operator=(const DiskFile&) = delete;
    DiskFile(DiskFile&& other) noexcept
        : path_(std::move(other.path_)),
          descriptor_(std::exchange(other.descriptor_, -1)),
          piece_(std::move(other.piece_)),
          begin_(other.begin_),
          end_(other.end_),
          taken_(other.taken_) {}
    DiskFile& operator=(DiskFile&&) = delete;

    /// Bytes read and not yet consumed; reads more when there are none. Empty at the end of the file.
    [[nodiscard]] std::span<const char> available() {
        if (begin_ == end_) {
            piece_.resize(kPieceBytes);
            begin_ = 0;
            end_ = read_once();
        }
        return std::span<const char>(piece_).subspan(begin_, end_ - begin_);
    }
    void consume(std::size_t count) { begin_ += count; }
    [[nodiscard]] std::int64_t bytes_taken() const { return taken_; }
    [[nodiscard]] const std::string& path() const { return path_; }

   private:
    std::size_t read_once() {
        ssize_t count = 0;
        do {
            count = ::read(descriptor_, piece_.data(), piece_.size());
        } while (count < 0 && errno == EINTR);
        require(count >= 0, ErrorCode::kInputOutput, "cannot read '{}': {}", path_, std::strerror(errno));
        taken_ += count;
        return static_cast<std::size_t>(count);
    }

    std::string path_;
    int descriptor_;
    std::vector<char> piece_;
    std::size_t begin_ = 0;
    std::size_t end_ = 0;
    std::int64_t taken_ = 0;
};

[[noreturn]] void ends_early(const std::string& path) {
    fail(ErrorCode::kData, "'{}' ends in the middle of its compressed data; copy or download it again", path);
}
[[noreturn]] void damaged(const std::string& path, const char* reason) {
    fail(ErrorCode::kData, "'{}' holds damaged compressed data ({}); copy or download it again", path, reason);
}

class PlainInput : public InputStream {
   public:
    explicit PlainInput(DiskFile file) : file_(std::move(file)) {}
    std::size_t read(std::span<char> out) override {
        const std::span<const char> bytes = file_.available();
        const std::size_t count = std::min(bytes.size(), out.size());
        if (count > 0) std::memcpy(out.data(), bytes.data(), count);
        file_.consume(count);
        return count;
    }
    [[nodiscard]] std::int64_t bytes_taken() const override { return file_.bytes_taken(); }
    [[nodiscard]] std::string_view compression() const override { return "plain"; }

   private:
    DiskFile file_;
};

/// Any number of gzip members one after the other.
class GzipInput : public InputStream {
   public:
    explicit GzipInput(DiskFile file) : file_(std::move(file)) {
        require(inflateInit2(&stream_, 15 + 16) == Z_OK, ErrorCode::kInternal, "zlib cannot start decompressing");
    }
    ~GzipInput() override { inflateEnd(&stream_); }
    GzipInput(const GzipInput&) = delete;
    GzipInput& operator=(const GzipInput&) = delete;
    GzipInput(GzipInput&&) = delete;
    GzipInput& operator=(GzipInput&&) = delete;

    std::size_t read(std::span<char> out) override {
        stream_.next_out = reinterpret_cast<Bytef*>(out.data());
        stream_.avail_out = static_cast<uInt>(out.size());
        while (stream_.avail_out == out.size()) {
            const std::span<const char> bytes = file_.available();
            if (bytes.empty()) {
                if (inside_member_) ends_early(file_.path());
                return 0;
            }
            inflate_once(bytes);
        }
        return out.size() - stream_.avail_out;
    }
    [[nodiscard]] std::int64_t bytes_taken() const override { return file_.bytes_taken(); }
    [[nodiscard]] std::string_view compression() const override { return "gzip"; }

   private:
    void inflate_once(std::span<const char> bytes) {
        stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));  // zlib does not write to it
        stream_.avail_in = static_cast<uInt>(bytes.size());
        inside_member_ = true;
        const int status = inflate(&stream_, Z_NO_FLUSH);
        file_.consume(bytes.size() - stream_.avail_in);
        if (status == Z_STREAM_END) {
            inside_member_ = false;
            inflateReset(&stream_);
        } else if (status != Z_OK) {
            damaged(file_.path(), stream_.msg != nullptr ? stream_.msg : "zlib gives no reason");
        }
    }

    DiskFile file_;
    z_stream stream_{};
    bool inside_member_ = false;
};

/// Any number of Zstandard frames one after the other.
class ZstdInput : public InputStream {
   public:
    explicit ZstdInput(DiskFile file) : file_(std::move(file)), stream_(ZSTD_createDStream(), &ZSTD_freeDStream) {
        require(stream_ != nullptr, ErrorCode::kInternal, "zstd cannot start decompressing");
    }
    std::size_t read(std::span<char> out) override {
        ZSTD_outBuffer produced{out.data(), out.size(), 0};
        while (produced.pos == 0) {
            const std::span<const char> bytes = file_.available();
            ZSTD_inBuffer consumed{bytes.data(), bytes.size(), 0};
            if (bytes.empty() && !inside_frame_) return 0;
            const std::size_t status = ZSTD_decompressStream(stream_.get(), &produced, &consumed);
            if (ZSTD_isError(status) != 0) damaged(file_.path(), ZSTD_getErrorName(status));
            file_.consume(consumed.pos);
            inside_frame_ = status != 0;
            if (bytes.empty() && produced.pos == 0 && inside_frame_) ends_early(file_.path());
        }
        return produced.pos;
    }
    [[nodiscard]] std::int64_t bytes_taken() const override { return file_.bytes_taken(); }
    [[nodiscard]] std::string_view compression() const override { return "zstd"; }

   private:
    DiskFile file_;
    std::unique_ptr<ZSTD_DStream, std::size_t (*)(ZSTD_DStream*)> stream_;
    bool inside_frame_ = false;
};

bool begins_with(std::span<const char> bytes, std::string_view magic) {
    return bytes.size() >= magic.size() && std::memcmp(bytes.data(), magic.data(), magic.size()) == 0;
}

}  // namespace

std::unique_ptr<InputStream> open_input(const std::string& path) {
    DiskFile file(path);
    const std::span<const char> head = file.available();
    if (begins_with(head, "\x1f\x8b")) return std::make_unique<GzipInput>(std::move(file));
    if (begins_with(head, "\x28\xb5\x2f\xfd")) return std::make_unique<ZstdInput>(std::move(file));
    return std::make_unique<PlainInput>(std::move(file));
}

}  // namespace duologue::preprocess
