// Jobs by fork and exec of the shell; their output in a file, so that nobody has to read it meanwhile.
#include "support/job.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <thread>

namespace duologue {

namespace {

constexpr auto kPause = std::chrono::milliseconds(10);

std::string content_of(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

double seconds_since(std::chrono::steady_clock::time_point begin) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

[[noreturn]] void become(const std::string& command, const std::string& output) {
    ::setpgid(0, 0);
    for (const int number : {SIGINT, SIGTERM}) ::signal(number, SIG_DFL);  // a shell in the background ignores them
    const int file = ::open(output.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    const int nothing = ::open("/dev/null", O_RDONLY);
    ::dup2(nothing, STDIN_FILENO);
    ::dup2(file, STDOUT_FILENO);
    ::dup2(file, STDERR_FILENO);
    ::execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
    ::_exit(127);
}

}  // namespace

Job::Job(const std::string& command) : begin_(std::chrono::steady_clock::now()) {
    process_ = ::fork();
    if (process_ < 0) throw std::runtime_error("cannot start a process for " + command);
    if (process_ == 0) become(command, folder_ / "output");
    ::setpgid(process_, process_);
}

Job::~Job() {
    if (!ended()) (void)finish(0.0);
}

std::string Job::output() const { return content_of(folder_ / "output"); }

bool Job::says(std::string_view text, double seconds) {
    const auto begin = std::chrono::steady_clock::now();
    while (true) {
        const bool last = ended() || seconds_since(begin) > seconds;
        if (output().find(text) != std::string::npos) return true;
        if (last) return false;
        std::this_thread::sleep_for(kPause);
    }
}

void Job::signal(int number) const { ::kill(process_, number); }

bool Job::ended() {
    if (!ended_) ended_ = ::waitpid(process_, &wait_status_, WNOHANG) == process_;
    return ended_;
}

Outcome Job::finish(double seconds) {
    const auto begin = std::chrono::steady_clock::now();
    while (!ended() && seconds_since(begin) < seconds) std::this_thread::sleep_for(kPause);
    const bool in_time = ended();
    if (!in_time) {
        ::kill(-process_, SIGTERM);  // mpirun ends its ranks, which are in groups of their own
        const auto asked = std::chrono::steady_clock::now();
        while (!ended() && seconds_since(asked) < 10.0) std::this_thread::sleep_for(kPause);
        ::kill(-process_, SIGKILL);
        if (!ended()) ended_ = ::waitpid(process_, &wait_status_, 0) == process_;
    }
    const int status = WIFEXITED(wait_status_) ? WEXITSTATUS(wait_status_) : 128 + WTERMSIG(wait_status_);
    return {.status = in_time ? status : -1, .output = output(), .seconds = seconds_since(begin_)};
}

Outcome run(const std::string& command, double seconds) { return Job(command).finish(seconds); }

int processes_with(std::string_view marker) {
    int found = 0;
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
        const std::string words = content_of(entry.path() / "cmdline");
        if (words.find(marker) != std::string::npos) ++found;
    }
    return found;
}

}  // namespace duologue
