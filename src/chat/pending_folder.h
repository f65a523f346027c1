// PendingFolder: a folder that comes into being whole, as a PendingFile does
#pragma once

#include <string>
#include <string_view>

namespace duologue {

/// Without commit() nothing of it stays. What killed processes of this machine left of the same folder is removed
/// first.
class PendingFolder {
   public:
    /// Makes the folder that is written into, beside the final one. A link at `final_path` is followed. kInputOutput.
    explicit PendingFolder(const std::string& final_path);
    ~PendingFolder();
    PendingFolder(const PendingFolder&) = delete;
    PendingFolder& operator=(const PendingFolder&) = delete;
    PendingFolder(PendingFolder&&) = delete;
    PendingFolder& operator=(PendingFolder&&) = delete;

    [[nodiscard]] std::string file(std::string_view name) const { return (path_ + "/").append(name); }

    /// Puts the folder in its place. An older folder there changes places with it in one step and is then removed.
    /// kInputOutput.
    void commit();

   private:
    void put_in_place() const;

    std::string final_path_;
    std::string path_;
};

}  // namespace duologue
