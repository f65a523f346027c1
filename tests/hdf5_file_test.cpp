// HDF5 files: round trips, damage shows, missing files and full disks are clear errors; durable replacement of files.
#include "data/hdf5_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <numeric>

#include "duologue/core/durable_file.h"
#include "duologue/core/error.h"
#include "support/file_size_limit.h"
#include "support/temporary_folder.h"

namespace duologue {
namespace {

using ::testing::HasSubstr;

ErrorCode code_of(const std::function<void()>& action, const std::string& text) {
    try {
        action();
    } catch (const Error& error) {
        EXPECT_THAT(error.what(), HasSubstr(text));
        return error.code();
    }
    ADD_FAILURE() << "no error";
    return ErrorCode::kInternal;
}

std::vector<std::uint16_t> counting(std::size_t count) {
    std::vector<std::uint16_t> values(count);
    std::iota(values.begin(), values.end(), std::uint16_t{0});
    return values;
}

void write_sample(const std::string& path, std::size_t count) {
    Hdf5File file = Hdf5File::create(path);
    file.write_attribute("version", 7);
    file.write_attribute("name", "caf\u00e9");
    file.create_dataset("tokens", Hdf5Type::kU16);
    const std::vector<std::uint16_t> values = counting(count);
    const std::span<const std::uint16_t> all(values);
    file.append("tokens", all.first(count / 3));
    file.append("tokens", all.subspan(count / 3));
    const std::vector<float> moments{0.5F, -1.25F};
    file.write("moments/first", std::span<const float>(moments));
    file.write_long_text("config", "{}");
    file.close();
}

TEST(Hdf5File, ReturnsWhatWasWritten) {
    const TemporaryFolder folder;
    write_sample(folder / "a.h5", 300000);
    const Hdf5File file = Hdf5File::open(folder / "a.h5");
    EXPECT_EQ(file.read_integer("version"), 7);
    EXPECT_EQ(file.read_text("name"), "caf\u00e9");
    EXPECT_TRUE(file.has_attribute("name"));
    EXPECT_FALSE(file.has_attribute("nam"));
    EXPECT_EQ(file.type("tokens"), Hdf5Type::kU16);
    EXPECT_EQ(file.read_all<std::uint16_t>("tokens"), counting(300000));
    std::vector<std::uint16_t> part(3);
    file.read_range("tokens", 200000, std::span<std::uint16_t>(part));
    EXPECT_EQ(part[2], static_cast<std::uint16_t>(200002));
    EXPECT_EQ(file.read_all<float>("moments/first"), (std::vector<float>{0.5F, -1.25F}));
    EXPECT_EQ(file.read_long_text("config"), "{}");
    EXPECT_FALSE(file.has_dataset("moments/second"));
}

TEST(Hdf5File, RefusesWrongTypesAndRanges) {
    const TemporaryFolder folder;
    write_sample(folder / "a.h5", 10);
    const Hdf5File file = Hdf5File::open(folder / "a.h5");
    EXPECT_EQ(code_of([&] { (void)file.read_all<float>("tokens"); }, "holds u16 where f32"), ErrorCode::kData);
    std::vector<std::uint16_t> part(3);
    EXPECT_EQ(code_of([&] { file.read_range("tokens", 8, std::span(part)); }, "[8, 11)"), ErrorCode::kData);
    EXPECT_EQ(code_of([&] { (void)file.read_text("version"); }, "as text"), ErrorCode::kData);
    EXPECT_EQ(code_of([&] { (void)file.read_integer("absent"); }, "absent"), ErrorCode::kData);
}

TEST(Hdf5File, NamesAMissingFile) {
    EXPECT_EQ(code_of([] { (void)Hdf5File::open("/nowhere/a.h5"); }, "/nowhere/a.h5"), ErrorCode::kInputOutput);
    EXPECT_EQ(code_of([] { (void)Hdf5File::create("/nowhere/a.h5"); }, "/nowhere/a.h5"), ErrorCode::kInputOutput);
}

TEST(Hdf5File, EveryTruncationIsAnError) {
    const TemporaryFolder folder;
    write_sample(folder / "a.h5", 300000);
    const std::string whole = read_file(folder / "a.h5");
    for (const std::size_t percent : {0U, 10U, 50U, 90U, 99U}) {
        write_file_durably(folder / "b.h5", std::string_view(whole).substr(0, whole.size() * percent / 100));
        EXPECT_EQ(code_of([&] { (void)Hdf5File::open(folder / "b.h5"); }, "b.h5"), ErrorCode::kData);
    }
}

TEST(Hdf5File, AnAppendedByteIsAnError) {
    const TemporaryFolder folder;
    write_sample(folder / "a.h5", 300000);
    write_file_durably(folder / "b.h5", read_file(folder / "a.h5") + "x");
    EXPECT_EQ(code_of([&] { (void)Hdf5File::open(folder / "b.h5"); }, "b.h5"), ErrorCode::kData);
}

TEST(Hdf5File, AFlippedBitInADatasetIsAnErrorAtReading) {
    const TemporaryFolder folder;
    write_sample(folder / "a.h5", 300000);
    std::string bytes = read_file(folder / "a.h5");
    bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 4);
    write_file_durably(folder / "b.h5", bytes);
    const Hdf5File file = Hdf5File::open(folder / "b.h5");
    EXPECT_EQ(code_of([&] { (void)file.read_all<std::uint16_t>("tokens"); }, "damaged"), ErrorCode::kData);
}

TEST(Hdf5File, AFullDiskIsAnErrorAndTheProcessGoesOn) {
    const TemporaryFolder folder;
    for (const rlim_t bytes : {0U, 50U, 1000U, 100000U, 600000U, 1100000U}) {
        const FileSizeLimit limit(bytes);
        EXPECT_EQ(code_of([&] { write_sample(folder / "a.h5", 600000); }, "a.h5"), ErrorCode::kInputOutput);
    }
    write_sample(folder / "a.h5", 3000);
    EXPECT_EQ(Hdf5File::open(folder / "a.h5").length("tokens"), 3000);
}

TEST(PendingFile, ReplacesOnlyAtCommit) {
    const TemporaryFolder folder;
    write_file_durably(folder / "a.txt", "old");
    {
        const PendingFile pending(folder / "a.txt");
        write_file_durably(pending.temporary_path(), "half");
    }
    EXPECT_EQ(read_file(folder / "a.txt"), "old");
    write_file_durably(folder / "a.txt", "new");
    EXPECT_EQ(read_file(folder / "a.txt"), "new");
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

TEST(PendingFile, FollowsLinksAndLeavesThem) {
    namespace fs = std::filesystem;
    const TemporaryFolder folder;
    fs::create_directory(folder / "deep");
    fs::create_symlink("deep/second", folder / "first");
    fs::create_symlink("../a.txt", folder / "deep/second");
    for (const char* text : {"new", "newer"}) {  // at first the links lead to nothing
        write_file_durably(folder / "first", text);
        EXPECT_EQ(read_file(folder / "a.txt"), text);
        EXPECT_TRUE(fs::is_symlink(folder / "first") && fs::is_symlink(folder / "deep/second"));
    }
}

TEST(PendingFile, RefusesToReplaceWhatIsNoFile) {
    namespace fs = std::filesystem;
    const TemporaryFolder folder;
    fs::create_directory(folder / "folder");
    ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
    fs::create_symlink("pipe", folder / "link");
    fs::create_symlink("loop", folder / "loop");
    const auto refusal = [&](const char* name, const std::string& says) {
        EXPECT_EQ(code_of([&] { const PendingFile pending(folder / name); }, says), ErrorCode::kInputOutput) << name;
    };
    refusal("folder", "folder' is a folder, not a file");
    refusal("pipe", "pipe' is a pipe, not a file");
    refusal("link", "link' is a pipe, not a file");
    refusal("loop", "cannot write '");
    EXPECT_TRUE(fs::is_fifo(folder / "pipe") && fs::is_symlink(folder / "link"));
}

TEST(PendingFile, AFullDiskLeavesTheOldFile) {
    const TemporaryFolder folder;
    write_file_durably(folder / "a.txt", "old");
    {
        const FileSizeLimit limit(10);
        EXPECT_EQ(code_of([&] { write_file_durably(folder / "a.txt", std::string(1000, 'x')); }, "a.txt"),
                  ErrorCode::kInputOutput);
    }
    EXPECT_EQ(read_file(folder / "a.txt"), "old");
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

}  // namespace
}  // namespace duologue
