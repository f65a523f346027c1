// A stop file: seen where it appears, looked for at most once a second, none where none is named.
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "support/temporary_folder.h"
#include "train/stop_file.h"

namespace duologue {
namespace {

TEST(StopFile, WithoutANameNobodyAsks) {
    StopFile none("");
    EXPECT_FALSE(none.exists());
}

TEST(StopFile, IsSeenWithinASecondAndStaysSeen) {
    const TemporaryFolder folder;
    const std::string path = folder.path() + "/stop";
    StopFile stop(path);
    EXPECT_FALSE(stop.exists());
    std::ofstream(path).close();
    EXPECT_FALSE(stop.exists()) << "the file system was asked twice within a second";
    std::this_thread::sleep_for(std::chrono::milliseconds(1100));
    EXPECT_TRUE(stop.exists());
    std::filesystem::remove(path);
    std::this_thread::sleep_for(std::chrono::milliseconds(1100));
    EXPECT_TRUE(stop.exists());
}

TEST(StopFile, AFolderThatIsNotThereYetIsNoError) {
    const TemporaryFolder folder;
    StopFile stop(folder.path() + "/later/stop");
    EXPECT_FALSE(stop.exists());
}

}  // namespace
}  // namespace duologue
