// OutputFolder: the folder of preprocessed data: nothing else may be in it, and a failed run makes none.
#pragma once

#include <filesystem>
#include <set>
#include <string>
#include <vector>

namespace duologue::preprocess {

/// kInputOutput, naming the entry, where `folder` is there and holds anything but preprocessed data, its leftovers and
/// hidden entries: a corpus, a saved model or the output of a training, which have a file of the same name as data.
void check_output(const std::string& folder);

class OutputFolder {
   public:
    /// Makes the folder, and those around it, where they are missing; removes what a killed run left. kInputOutput.
    explicit OutputFolder(std::string path);
    /// Without keep() the folders made go again.
    ~OutputFolder();
    OutputFolder(const OutputFolder&) = delete;
    OutputFolder& operator=(const OutputFolder&) = delete;
    OutputFolder(OutputFolder&&) = delete;
    OutputFolder& operator=(OutputFolder&&) = delete;

    void keep() { made_.clear(); }
    /// Removes the shards of an earlier run.
    void remove_shards_but(const std::set<std::string>& current) const;

   private:
    std::string path_;
    std::vector<std::filesystem::path> made_;  // the inner ones first
};

}  // namespace duologue::preprocess
