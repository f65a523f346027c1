// StepLoader: this rank's micro-batches of the next global step, made while the current one computes.
#pragma once

#include <cstdint>
#include <exception>
#include <future>
#include <optional>

#include "duologue/data/batches.h"

namespace duologue {

/// Which micro-batches are wanted.
struct StepShare {
    std::int64_t micro_batches = 1;  ///< per global step, over all ranks
    int rank = 0;
    int ranks = 1;
};

class StepLoader {
   public:
    /// `data` outlives the loader and is used by nobody else meanwhile.
    StepLoader(TrainingData& data, const StepShare& share) : data_(data), share_(share) {}

    /// The step that begins at `position`; the one after it begins to be made.
    [[nodiscard]] GlobalStep take(const DataPosition& position);

    /// The step that begins at `position` where it is already made, else null. Valid until take().
    [[nodiscard]] const GlobalStep* made(const DataPosition& position);

   private:
    struct Made {
        GlobalStep step;
        std::exception_ptr error;  // in place of a step
    };
    void begin(const DataPosition& position);
    [[nodiscard]] bool has_begun(const DataPosition& position) const;
    const Made& finish();

    TrainingData& data_;
    StepShare share_;
    DataPosition begun_;
    std::optional<Made> made_;
    std::future<Made> next_;  // from std::async: its destructor waits; not valid where it stands in made_
};

/// How many global steps an epoch has: counted where the data is small, else extrapolated from its first steps. A
/// function of data and seed alone.
[[nodiscard]] std::int64_t estimate_steps_per_epoch(TrainingData& data, std::int64_t micro_batches);

}  // namespace duologue
