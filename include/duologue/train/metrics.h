// Metrics: what each step and validation gave, as a line of JSON in a file and as progress for people.
#pragma once

#include <chrono>
#include <cstdint>
#include <fstream>
#include <string>
#include <string_view>

#include "duologue/core/log.h"

namespace duologue {

enum class StepOutcome : std::uint8_t { kApplied, kSkipped };

/// One global step, over all ranks.
struct StepMetrics {
    std::int64_t step = 0;
    std::int64_t epoch = 0;   ///< 0-based
    double train_loss = 0.0;  ///< label-smoothed, nats per target token
    double learning_rate = 0.0;
    double gradient_norm = 0.0;  ///< before clipping, of the mean loss
    double source_tokens = 0.0;
    double target_tokens = 0.0;
    double seconds = 0.0;
    double matmul_share = 0.0;  ///< of the fastest matmul rate of all ranks seen so far; 0: not measured
    StepOutcome outcome = StepOutcome::kApplied;
};

struct ValidationMetrics {
    std::int64_t step = 0;
    std::int64_t epoch = 0;
    double loss = 0.0;          ///< negative log-likelihood without smoothing, nats per target token
    double unigram_loss = 0.0;  ///< of the best model that knows only how frequent each token of this split is
    double seconds = 0.0;
};

/// metrics.jsonl: one JSON object per line.
class MetricsFile {
   public:
    /// Opens `path` for appending and drops what a later run will write again: events after `last_step`, and a last
    /// line that a killed run left unfinished. kInputOutput.
    MetricsFile(const std::string& path, std::int64_t last_step);
    void append(const StepMetrics& metrics);
    void append(const ValidationMetrics& metrics);

   private:
    void append_line(const std::string& line);
    std::string path_;
    std::ofstream file_;
};

enum class ProgressStyle : std::uint8_t {
    kTerminal,  ///< one line, rewritten in place
    kLines,     ///< a line of key=value every train.log_interval_steps
    kNone,
};

/// kTerminal where standard error ends on a terminal, seen through mpirun's pipe too.
[[nodiscard]] ProgressStyle detect_progress_style();

struct ProgressSettings {
    ProgressStyle style = ProgressStyle::kLines;
    std::int64_t planned_steps = 0;
    std::int64_t planned_epochs = 0;  ///< 0: the run is measured in steps
    std::int64_t interval_steps = 1;
};

/// What people see while it trains, on standard error.
class Progress {
   public:
    Progress(const ProgressSettings& settings, const Log& log) : settings_(settings), log_(log) {}
    void show(const StepMetrics& metrics);
    void show(const ValidationMetrics& metrics);
    /// On a terminal, instead of the figures of the last step: what is done between steps, redrawn a few times a
    /// second.
    void doing(std::string_view what);
    /// Takes the line in place off the screen, before anything else is written there.
    void clear();

   private:
    [[nodiscard]] double remaining_seconds(const StepMetrics& metrics);
    void show_in_place(const StepMetrics& metrics, double remaining_seconds);
    void draw(const std::string& line);
    void show_as_line(const StepMetrics& metrics, double remaining_seconds);

    ProgressSettings settings_;
    const Log& log_;
    double seconds_per_step_ = 0.0;  // running mean that forgets
    bool line_shown_ = false;
    std::string place_;  // "step 5/65  epoch 1/3"
    std::string doing_;  // its first word
    std::chrono::steady_clock::time_point drawn_;
};

/// "1:02:03".
[[nodiscard]] std::string clock_text(double seconds);

}  // namespace duologue
