// Durable files: written to a temporary name, synced, renamed; a crash leaves the old file or the new one, never half.
#pragma once

#include <string>
#include <string_view>

namespace duologue {

/// A file that comes into being whole. Write to `temporary_path()` by whatever means, close it, then `commit()`.
/// Without a commit the destructor removes the temporary file and the final path is untouched.
class PendingFile {
   public:
    /// Links are followed: the file that they lead to is replaced. kInputOutput where anything but a file is there.
    explicit PendingFile(const std::string& final_path);
    ~PendingFile();
    PendingFile(const PendingFile&) = delete;
    PendingFile& operator=(const PendingFile&) = delete;
    PendingFile(PendingFile&& other) noexcept;
    PendingFile& operator=(PendingFile&&) = delete;

    [[nodiscard]] const std::string& temporary_path() const { return temporary_path_; }
    [[nodiscard]] const std::string& final_path() const { return final_path_; }

    /// Syncs the temporary file, renames it to the final path (replacing what was there) and syncs the folder.
    /// kInputOutput where any of it fails; the temporary file is then removed by the destructor.
    void commit();

   private:
    std::string final_path_;
    std::string temporary_path_;
    bool pending_ = true;
};

/// Makes renamings in a folder ("" is the current one) last through a crash of the machine. kInputOutput.
void sync_folder(const std::string& folder);

/// Writes `text` durably as the whole content of `path`. kInputOutput.
void write_file_durably(const std::string& path, std::string_view text);

/// The whole content of a file. kInputOutput naming the file and the system's reason.
[[nodiscard]] std::string read_file(const std::string& path);

}  // namespace duologue
