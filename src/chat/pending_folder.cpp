// Written under another name, exchanged with what was there, removed.
#include "pending_folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <vector>

#include "duologue/core/durable_file.h"
#include "duologue/core/error.h"

namespace duologue {

namespace {

namespace fs = std::filesystem;

std::string parent_of(const std::string& path) {
    const std::string parent = fs::path(path).parent_path().string();
    return parent.empty() ? "." : parent;
}

/// Whether `name` is "STEM.PID.part" of a process that is no more. It may be of this process's number: containers give
/// the same ones again.
bool is_leftover(const std::string& name, const std::string& stem) {
    constexpr std::string_view kEnd = ".part";
    if (!name.starts_with(stem + ".") || !name.ends_with(kEnd)) return false;
    const std::size_t begin = stem.size() + 1;
    if (name.size() <= begin + kEnd.size()) return false;
    pid_t process = 0;
    const char* end = name.data() + name.size() - kEnd.size();
    const auto [rest, problem] = std::from_chars(name.data() + begin, end, process);
    if (problem != std::errc() || rest != end || process <= 0) return false;
    return process == getpid() || (kill(process, 0) != 0 && errno == ESRCH);
}

/// Removes what killed processes left of the folder that was to become `final_path`.
void remove_leftovers(const std::string& final_path) {
    const std::string stem = fs::path(final_path).filename().string();
    std::error_code problem;
    std::vector<fs::path> found;
    for (fs::directory_iterator entry(parent_of(final_path), problem); !problem && entry != end(entry);
         entry.increment(problem)) {
        if (is_leftover(entry->path().filename().string(), stem)) found.push_back(entry->path());
    }
    for (const fs::path& path : found) fs::remove_all(path, problem);
}

/// The folder itself, not a link to it: a link would change places with what it leads to.
std::string real_path(const std::string& path) {
    std::error_code problem;
    const std::string real = fs::weakly_canonical(path, problem).string();
    const std::string& found = problem ? path : real;
    return found.substr(0, found.find_last_not_of('/') + 1);
}

void move(const std::string& from, const std::string& to) {
    require(std::rename(from.c_str(), to.c_str()) == 0, ErrorCode::kInputOutput,
            "cannot rename the folder '{}' to '{}': {}", from, to, std::strerror(errno));
}

}  // namespace

PendingFolder::PendingFolder(const std::string& final_path)
    : final_path_(real_path(final_path)), path_(fmt::format("{}.{}.part", final_path_, getpid())) {
    remove_leftovers(final_path_);
    std::error_code problem;
    fs::create_directories(path_, problem);
    require(!problem, ErrorCode::kInputOutput, "cannot create the folder '{}': {}", path_, problem.message());
}

PendingFolder::~PendingFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
}

void PendingFolder::commit() {
    put_in_place();
    sync_folder(parent_of(final_path_));
}

void PendingFolder::put_in_place() const {
    if (!fs::exists(final_path_)) return move(path_, final_path_);
    if (renameat2(AT_FDCWD, path_.c_str(), AT_FDCWD, final_path_.c_str(), RENAME_EXCHANGE) == 0) return;
    // Some network file systems cannot exchange: the older folder stays beside until the new one is in place.
    require(errno == EINVAL || errno == ENOSYS, ErrorCode::kInputOutput, "cannot replace the folder '{}': {}",
            final_path_, std::strerror(errno));
    const std::string older = path_ + ".older";
    move(final_path_, older);
    if (std::rename(path_.c_str(), final_path_.c_str()) != 0) {
        const int problem = errno;
        move(older, final_path_);
        fail(ErrorCode::kInputOutput, "cannot rename the folder '{}' to '{}': {}", path_, final_path_,
             std::strerror(problem));
    }
    move(older, path_);
}

}  // namespace duologue
