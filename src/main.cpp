// duologue: the command line, the environment, signals, and the only catch.
#include <malloc.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <iostream>
#include <string>
#include <thread>

#include "commands/program.h"
#include "duologue/core/error.h"
#include "duologue/core/log.h"

namespace {

using duologue::Answer;
using duologue::CommandLine;
using duologue::Environment;
using duologue::Error;
using duologue::ErrorCode;
using duologue::Program;

// A signal handler reaches nothing but what has static storage.
duologue::StopRequest stop_request;

extern "C" void on_signal(int signal) {
    if (signal == SIGTERM) stop_request.terminated = true;
    stop_request.wanted = true;
}

void handle(int signal, void (*handler)(int)) {
    struct sigaction action {};
    action.sa_handler = handler;  // no SA_RESTART: a waiting read returns
    sigaction(signal, &action, nullptr);
}

std::string environment(const char* name) {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
}

/// Where the lines typed in chats are kept (XDG Base Directory: $XDG_STATE_HOME, else ~/.local/state).
std::string history_path() {
    const std::string home = environment("HOME");
    std::string folder = environment("XDG_STATE_HOME");
    if (folder.empty() && home.empty()) return "";
    if (folder.empty()) folder = home + "/.local/state";
    std::error_code problem;
    std::filesystem::create_directories(folder + "/duologue", problem);
    return problem ? "" : folder + "/duologue/history";
}

/// launch/ranks.sh says where lines come from a terminal: they pass through a pipe of its own.
duologue::Started how_started(const std::string& rank) {
    if (rank.empty()) return duologue::Started::kDirectly;
    return environment("DUOLOGUE_INPUT") == "typed" ? duologue::Started::kForAPerson : duologue::Started::kByLauncher;
}

Environment read_environment() {
    std::string rank;  // Open MPI's mpirun, other launchers, Slurm
    for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID"}) {
        if (rank.empty()) rank = environment(name);
    }
    return {.started = how_started(rank), .rank = std::atoi(rank.c_str()), .history_path = history_path()};
}

void declare_commands(Program& program) {
    duologue::declare_train(program);
    duologue::declare_chat(program);
    duologue::declare_evaluate(program);
    duologue::declare_plan(program);
    duologue::declare_inspect(program);
    duologue::declare_doctor(program);
    duologue::declare_export(program);
}

/// OpenMP's threads wait for each other actively, by default for milliseconds, in which a process that shares the cores
/// could have worked. GNU's library takes this from the environment when it is loaded, so the program starts again;
/// where it cannot, or the user has said how to wait, it goes on as it is.
void wait_briefly_for_threads(char** argv) {
    if (std::getenv("GOMP_SPINCOUNT") != nullptr || std::getenv("OMP_WAIT_POLICY") != nullptr) return;
    ::setenv("GOMP_SPINCOUNT", "2000", 0);  // about 30 us
    std::error_code unreadable;
    ::execv(std::filesystem::read_symlink("/proc/self/exe", unreadable).c_str(), argv);
}

/// Large blocks that are freed go back to the system, so that a rank holds what is in use. By default glibc keeps
/// blocks as large as the largest that was ever freed: 49 MB of the 196 that a small training held between checkpoints.
void return_freed_memory() { mallopt(M_MMAP_THRESHOLD, 128 * 1024); }

/// A report that a full disk has swallowed was not given. Where nobody reads any more, nobody misses it.
void require_said(const Program& program) {
    const bool written = std::cout.flush().good() && std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
    duologue::require(written || program.stop.wanted, ErrorCode::kInputOutput,
                      "what was printed could not all be written; is the disk of standard output full?");
}

/// mpirun on a busy machine has taken longer than a second to end the other ranks after rank 0.
constexpr std::chrono::seconds kForRank0ToSpeak{5};

/// Says what went wrong in one line and ends: where there are other ranks, all of them. A command line is mostly as
/// wrong for every rank of a job, and mpirun ends all of them with the first that ends: the others leave rank 0 the
/// time to say it once, and say it themselves where that has not ended them.
int fail_with(Program& program, int status, const std::string& message) {
    if (program.world) program.world->end(status, message);
    const bool is_command_line = !program.run && status == static_cast<int>(ErrorCode::kConfiguration);
    if (is_command_line && program.environment.rank != 0) std::this_thread::sleep_for(kForRank0ToSpeak);
    duologue::Log().error("{}", message);
    return status;
}

}  // namespace

int main(int argc, char** argv) {
    wait_briefly_for_threads(argv);
    Program program{
        .line = CommandLine("duologue", DUOLOGUE_VERSION, "Trains conversational Transformers, and talks with them."),
        .argc = argc,
        .argv = argv,
        .environment = read_environment(),
        .stop = stop_request};
    program.stop_on_signals = [](duologue::StopOn stop) {
        handle(SIGINT, on_signal);
        handle(SIGUSR1, on_signal);  // mpirun forwards it, and kills where it gets SIGINT or SIGTERM; Slurm sends it
        // Nobody reads what is said any more, mpirun is gone, or a rank: left alone, it ends this process without a
        // word.
        handle(SIGPIPE, on_signal);
        handle(SIGTERM, stop == duologue::StopOn::kInterruptAndTerminate ? on_signal : SIG_DFL);
    };
    return_freed_memory();
    handle(SIGXFSZ, SIG_IGN);  // a limit on file sizes is an error of the write, as a full disk is
    try {
        declare_commands(program);
        program.run =
            program.line.read({argv + 1, argv + argc}, program.environment.rank == 0 ? Answer::kPrint : Answer::kOmit);
        const int status = program.run();
        require_said(program);
        return status;
    } catch (const Error& error) {
        return fail_with(program, error.exit_status(), error.what());
    } catch (const std::filesystem::filesystem_error& error) {
        return fail_with(program, static_cast<int>(ErrorCode::kInputOutput),
                         fmt::format("cannot look at '{}': {}", error.path1().string(), error.code().message()));
    } catch (const std::exception& error) {
        return fail_with(program, static_cast<int>(ErrorCode::kInternal), error.what());
    }
}
