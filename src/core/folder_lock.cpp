// flock, asked for again until the patience ends.
#include "duologue/core/folder_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "duologue/core/error.h"

namespace duologue {

namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kBetweenTries(50);

}  // namespace

FolderLock::FolderLock(const std::string& folder, const char* work, double patience_seconds) {
    const std::string path = folder + "/.lock";
    descriptor_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    require(descriptor_ >= 0, ErrorCode::kInputOutput, "cannot open '{}': {}", path, std::strerror(errno));
    const auto end = Clock::now() + std::chrono::duration<double>(patience_seconds);
    while (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
        const int problem = errno;
        held_ = problem != ENOSYS && problem != ENOLCK && problem != EOPNOTSUPP && problem != EINVAL;
        if (!held_) return;
        const bool taken = problem == EWOULDBLOCK || problem == EINTR;
        if (taken && Clock::now() < end) {
            std::this_thread::sleep_for(kBetweenTries);
            continue;
        }
        ::close(descriptor_);
        require(taken, ErrorCode::kInputOutput, "cannot lock '{}': {}", path, std::strerror(problem));
        fail(ErrorCode::kInputOutput, "{} is already at work in '{}'; wait for its end, or name another folder", work,
             folder);
    }
}

FolderLock::~FolderLock() { ::close(descriptor_); }

}  // namespace duologue
