// Sample: what make_sample.sh has made, and the command lines that the tests of the programs build on.
#pragma once

#include <fmt/format.h>

#include <filesystem>
#include <map>
#include <string>

#include "duologue/core/durable_file.h"

namespace duologue {

namespace fs = std::filesystem;

inline const std::string kPrograms = PROGRAM_FOLDER;
inline const std::string kSample = SAMPLE_FOLDER;
inline const std::string kPreprocess = kPrograms + "/duologue-preprocess";
inline const std::string kMpirun = MPIRUN " --bind-to none";
inline const std::string kDuologue = kPrograms + "/duologue";

/// The options of one rank or of all: training as the sample's run was trained, into `output`.
inline std::string train(const std::string& output, const std::string& more = "") {
    return fmt::format("{} train --config {}/config.json --output.path={} {}", kDuologue, kSample, output, more);
}

/// The same under mpirun. `exec`, so that signals to the job reach mpirun.
inline std::string train_on(int ranks, const std::string& output, const std::string& more = "") {
    return fmt::format("exec {} -n {} {}", kMpirun, ranks, train(output, more));
}

/// Copies a folder or file of the sample to `to`.
inline void copy_sample(const std::string& name, const std::string& to) {
    fs::create_directories(fs::path(to).parent_path());
    fs::copy(kSample + "/" + name, to, fs::copy_options::recursive);
}

/// Relative path and content of every file under `folder`.
inline std::map<std::string, std::string> contents_of(const std::string& folder) {
    std::map<std::string, std::string> contents;
    for (const auto& entry : fs::recursive_directory_iterator(folder)) {
        if (entry.is_regular_file()) {
            contents[fs::relative(entry.path(), folder).string()] = read_file(entry.path().string());
        }
    }
    return contents;
}

/// The model that the unbroken run has ended with.
inline const std::string& final_model() {
    static const std::string content = read_file(kSample + "/run/model/model.safetensors");
    return content;
}

}  // namespace duologue
