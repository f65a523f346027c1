// Lines of JSON, lines of key=value, and the one line in place.
#include "duologue/train/metrics.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "duologue/core/durable_file.h"
#include "duologue/core/error.h"

namespace duologue {

namespace fs = std::filesystem;

namespace {

double per_second(double count, double seconds) { return seconds > 0.0 ? count / seconds : 0.0; }

// The lines of `text` that are whole and not after `last_step`.
std::string lines_up_to(const std::string& text, std::int64_t last_step) {
    std::istringstream lines(text);
    std::string kept;
    for (std::string line; std::getline(lines, line);) {
        const auto event = nlohmann::json::parse(line, nullptr, false);
        if (!event.is_object() || !event.contains("step") || !event["step"].is_number_integer()) continue;
        if (event["step"].get<std::int64_t>() <= last_step) kept += line + "\n";
    }
    return kept;
}

}  // namespace

MetricsFile::MetricsFile(const std::string& path, std::int64_t last_step) : path_(path) {
    if (fs::exists(path)) {
        const std::string text = read_file(path);
        const std::string kept = lines_up_to(text, last_step);
        if (kept != text) write_file_durably(path, kept);
    }
    file_.open(path, std::ios::app);
    require(file_.is_open(), ErrorCode::kInputOutput, "cannot open '{}' for appending: {}", path, std::strerror(errno));
}

void MetricsFile::append_line(const std::string& line) {
    file_ << line << '\n' << std::flush;
    require(file_.good(), ErrorCode::kInputOutput, "cannot write to '{}': {}; free some space and run again", path_,
            std::strerror(errno));
}

void MetricsFile::append(const StepMetrics& metrics) {
    const nlohmann::ordered_json event = {
        {"event", "step"},
        {"step", metrics.step},
        {"epoch", metrics.epoch + 1},
        {"train_loss", metrics.train_loss},
        {"learning_rate", metrics.learning_rate},
        {"gradient_norm", metrics.gradient_norm},
        {"source_tokens_per_second", per_second(metrics.source_tokens, metrics.seconds)},
        {"target_tokens_per_second", per_second(metrics.target_tokens, metrics.seconds)},
        {"matmul_share", metrics.matmul_share},
        {"seconds", metrics.seconds},
        {"skipped", metrics.outcome == StepOutcome::kSkipped}};
    append_line(event.dump());
}

void MetricsFile::append(const ValidationMetrics& metrics) {
    const nlohmann::ordered_json event = {{"event", "validation"},
                                          {"step", metrics.step},
                                          {"epoch", metrics.epoch + 1},
                                          {"val_loss", metrics.loss},
                                          {"perplexity", std::exp(metrics.loss)},
                                          {"unigram_perplexity", std::exp(metrics.unigram_loss)},
                                          {"seconds", metrics.seconds}};
    append_line(event.dump());
}

std::string clock_text(double seconds) {
    const auto whole = static_cast<std::int64_t>(std::clamp(seconds, 0.0, 1e9));
    return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

ProgressStyle detect_progress_style() {
    if (::isatty(STDERR_FILENO) == 1) return ProgressStyle::kTerminal;
    // mpirun, our parent, reads our standard error from a pipe and writes it to its own.
    const std::string parent = fmt::format("/proc/{}", ::getppid());
    std::error_code unknown;
    const std::string program = fs::read_symlink(parent + "/exe", unknown).filename().string();
    const std::string target = fs::read_symlink(parent + "/fd/2", unknown).string();
    const std::array<const char*, 5> launchers{"mpirun", "orterun", "mpiexec", "prterun", "prte"};
    const bool launched = std::find(launchers.begin(), launchers.end(), program) != launchers.end();
    const bool terminal = target.starts_with("/dev/pts/") || target.starts_with("/dev/tty");
    return launched && terminal ? ProgressStyle::kTerminal : ProgressStyle::kLines;
}

double Progress::remaining_seconds(const StepMetrics& metrics) {
    constexpr double kMemory = 0.95;
    const bool first = seconds_per_step_ == 0.0;
    seconds_per_step_ = first ? metrics.seconds : kMemory * seconds_per_step_ + (1.0 - kMemory) * metrics.seconds;
    return seconds_per_step_ * static_cast<double>(std::max<std::int64_t>(settings_.planned_steps - metrics.step, 0));
}

void Progress::show(const StepMetrics& metrics) {
    const double remaining = remaining_seconds(metrics);
    if (settings_.style == ProgressStyle::kTerminal) {
        show_in_place(metrics, remaining);
    } else if (settings_.style == ProgressStyle::kLines && metrics.step % settings_.interval_steps == 0) {
        show_as_line(metrics, remaining);
    }
}

void Progress::show_in_place(const StepMetrics& metrics, double remaining_seconds) {
    const double rate = per_second(metrics.source_tokens + metrics.target_tokens, metrics.seconds);
    place_ = fmt::format("step {}/{}", metrics.step, settings_.planned_steps);
    place_ += settings_.planned_epochs > 0 ? fmt::format("  epoch {}/{}", metrics.epoch + 1, settings_.planned_epochs)
                                           : fmt::format("  epoch {}", metrics.epoch + 1);
    std::string line = place_ + fmt::format("  loss {:.4f}  {:.0f} tokens/s", metrics.train_loss, rate);
    if (metrics.matmul_share > 0.0) line += fmt::format("  {:.0f}% of peak", 100.0 * metrics.matmul_share);
    line += fmt::format("  ETA {}", clock_text(remaining_seconds));
    doing_.clear();
    draw(line);
}

void Progress::doing(std::string_view what) {
    constexpr std::chrono::milliseconds kInterval{200};
    if (settings_.style != ProgressStyle::kTerminal) return;
    const std::string begun(what.substr(0, what.find(' ')));
    const auto now = std::chrono::steady_clock::now();
    if (begun == doing_ && now - drawn_ < kInterval) return;
    doing_ = begun;
    drawn_ = now;
    draw(fmt::format("{}{}{} ...", place_, place_.empty() ? "" : "  ", what));
}

void Progress::draw(const std::string& line) {
    // A narrow terminal cuts the line at its edge (DECAWM off), because one that wraps could not be rewritten in place.
    fmt::print(stderr, "\r\033[K\033[?7l{}\033[?7h", line);
    std::fflush(stderr);
    line_shown_ = true;
}

void Progress::show_as_line(const StepMetrics& metrics, double remaining_seconds) {
    log_.info(
        "step={} epoch={} train_loss={:.6g} learning_rate={:.4g} gradient_norm={:.4g} source_tokens_per_second={:.0f} "
        "target_tokens_per_second={:.0f} matmul_share={:.3f} seconds={:.3f} eta={}",
        metrics.step, metrics.epoch + 1, metrics.train_loss, metrics.learning_rate, metrics.gradient_norm,
        per_second(metrics.source_tokens, metrics.seconds), per_second(metrics.target_tokens, metrics.seconds),
        metrics.matmul_share, metrics.seconds, clock_text(remaining_seconds));
}

void Progress::show(const ValidationMetrics& metrics) {
    if (settings_.style == ProgressStyle::kNone) return;
    clear();
    log_.info("step={} epoch={} val_loss={:.6g} perplexity={:.2f} unigram_perplexity={:.2f}", metrics.step,
              metrics.epoch + 1, metrics.loss, std::exp(metrics.loss), std::exp(metrics.unigram_loss));
}

void Progress::clear() {
    if (!line_shown_) return;
    std::fputs("\r\033[K", stderr);
    std::fflush(stderr);
    line_shown_ = false;
}

}  // namespace duologue
