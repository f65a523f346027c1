// SharedFolder: a folder for a test of several ranks on one host.
#pragma once

#include <memory>
#include <string>

#include "support/mpi_main.h"
#include "support/temporary_folder.h"

namespace duologue {

inline void wait_for_all_ranks() { (void)test_world().gather_all(""); }

/// A folder that rank 0 makes and all ranks see; it goes when all are done with it.
class SharedFolder {
   public:
    SharedFolder() {
        if (test_world().rank() == 0) mine_ = std::make_unique<TemporaryFolder>();
        path_ = test_world().broadcast(mine_ ? mine_->path() : "");
    }
    ~SharedFolder() { wait_for_all_ranks(); }
    SharedFolder(const SharedFolder&) = delete;
    SharedFolder& operator=(const SharedFolder&) = delete;
    SharedFolder(SharedFolder&&) = delete;
    SharedFolder& operator=(SharedFolder&&) = delete;
    [[nodiscard]] const std::string& path() const { return path_; }

   private:
    std::unique_ptr<TemporaryFolder> mine_;
    std::string path_;
};

}  // namespace duologue
