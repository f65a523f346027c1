// Temporary name, sync, rename, sync of the folder.
#include "duologue/core/durable_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "duologue/core/error.h"

namespace duologue {

namespace {

namespace fs = std::filesystem;

/// An open file descriptor that closes itself.
class Descriptor {
   public:
    Descriptor(const std::string& path, int flags, const char* purpose)
        : path_(path), value_(::open(path.c_str(), flags, 0666)) {
        require(value_ >= 0, ErrorCode::kInputOutput, "cannot open '{}' {}: {}", path, purpose, std::strerror(errno));
    }
    ~Descriptor() {
        if (value_ >= 0) ::close(value_);
    }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    Descriptor(Descriptor&&) = delete;
    Descriptor& operator=(Descriptor&&) = delete;

    void sync() const {
        require(::fsync(value_) == 0, ErrorCode::kInputOutput, "cannot sync '{}' to the disk: {}", path_,
                std::strerror(errno));
    }
    void write(std::string_view text) const {
        while (!text.empty()) {
            const ssize_t written = ::write(value_, text.data(), text.size());
            if (written < 0 && errno == EINTR) continue;
            require(written > 0, ErrorCode::kInputOutput, "cannot write '{}': {}; free some space and try again", path_,
                    std::strerror(errno));
            text.remove_prefix(static_cast<std::size_t>(written));
        }
    }
    [[nodiscard]] std::string read_all() const {
        std::string text;
        char piece[65536];
        for (;;) {
            const ssize_t count = ::read(value_, piece, sizeof piece);
            if (count < 0 && errno == EINTR) continue;
            require(count >= 0, ErrorCode::kInputOutput, "cannot read '{}': {}", path_, std::strerror(errno));
            if (count == 0) return text;
            text.append(piece, static_cast<std::size_t>(count));
        }
    }

   private:
    const std::string& path_;
    int value_;
};

const char* kind_of(fs::file_type type) {
    switch (type) {
        case fs::file_type::directory:
            return "a folder";
        case fs::file_type::fifo:
            return "a pipe";
        case fs::file_type::socket:
            return "a socket";
        default:
            return "a device";
    }
}

/// Where a file that is written to `path` belongs: the end of the links that lead there. A renaming replaces what it
/// meets, a link or a device as well as a file, so that anything but a file is refused.
std::string place_of(const std::string& path) {
    std::error_code problem;
    const fs::file_type type = fs::status(path, problem).type();
    const bool absent = type == fs::file_type::not_found;
    require(absent || !problem, ErrorCode::kInputOutput, "cannot write '{}': {}", path, problem.message());
    require(absent || type == fs::file_type::regular, ErrorCode::kInputOutput, "'{}' is {}, not a file", path,
            kind_of(type));
    fs::path place = path;
    while (fs::is_symlink(fs::symlink_status(place, problem))) place = place.parent_path() / fs::read_symlink(place);
    return place.string();
}

}  // namespace

PendingFile::PendingFile(const std::string& final_path)
    : final_path_(place_of(final_path)), temporary_path_(fmt::format("{}.{}.part", final_path_, ::getpid())) {}

PendingFile::PendingFile(PendingFile&& other) noexcept
    : final_path_(std::move(other.final_path_)),
      temporary_path_(std::move(other.temporary_path_)),
      pending_(std::exchange(other.pending_, false)) {}

PendingFile::~PendingFile() {
    if (pending_) ::unlink(temporary_path_.c_str());
}

void PendingFile::commit() {
    Descriptor(temporary_path_, O_RDWR | O_CLOEXEC, "to sync it").sync();
    require(::rename(temporary_path_.c_str(), final_path_.c_str()) == 0, ErrorCode::kInputOutput,
            "cannot rename '{}' to '{}': {}", temporary_path_, final_path_, std::strerror(errno));
    pending_ = false;
    sync_folder(fs::path(final_path_).parent_path().string());
}

void sync_folder(const std::string& folder) {
    const std::string path = folder.empty() ? "." : folder;
    Descriptor(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, "to sync it").sync();
}

void write_file_durably(const std::string& path, std::string_view text) {
    PendingFile file(path);
    Descriptor(file.temporary_path(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, "for writing").write(text);
    file.commit();
}

std::string read_file(const std::string& path) {
    return Descriptor(path, O_RDONLY | O_CLOEXEC, "for reading").read_all();
}

}  // namespace duologue
