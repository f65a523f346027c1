// FolderLock: one process at a time works in a folder
#pragma once

#include <string>

namespace duologue {

/// The system's lock (flock) on the file `.lock` in the folder, which stays there; it ends with the process, however
/// that ends.
class FolderLock {
   public:
    /// Waits `patience_seconds` for a process that is about to end, then kInputOutput: `work` is what would be done in
    /// the folder, for example "a training". Where the file system has no locks, nothing is held;
    /// some (Lustre, NFS and FUSE by their mount options) have locks among the processes of one host only.
    FolderLock(const std::string& folder, const char* work, double patience_seconds);
    ~FolderLock();
    FolderLock(const FolderLock&) = delete;
    FolderLock& operator=(const FolderLock&) = delete;
    FolderLock(FolderLock&&) = delete;
    FolderLock& operator=(FolderLock&&) = delete;

    [[nodiscard]] bool held() const { return held_; }

   private:
    int descriptor_;
    bool held_ = true;
};

}  // namespace duologue
