// run_program: one of the project's programs run to its end, with all that it said and the most memory that it held.
#pragma once

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "duologue/core/durable_file.h"
#include "support/temporary_folder.h"

namespace duologue {

struct ProgramRun {
    int status = -1;  ///< exit status; 128 and the signal where one ended it
    std::string output;
    std::string errors;
    std::int64_t peak_bytes = 0;  ///< of resident memory
};

/// `arguments[0]` is the program's path. Standard input is empty.
inline ProgramRun run_program(const std::vector<std::string>& arguments) {
    const TemporaryFolder folder;
    const std::string output = folder / "output";
    const std::string errors = folder / "errors";
    std::vector<char*> raw;
    for (const std::string& argument : arguments) raw.push_back(const_cast<char*>(argument.c_str()));
    raw.push_back(nullptr);
    const pid_t child = fork();
    if (child == 0) {
        dup2(open("/dev/null", O_RDONLY), STDIN_FILENO);
        dup2(open(output.c_str(), O_WRONLY | O_CREAT, 0600), STDOUT_FILENO);
        dup2(open(errors.c_str(), O_WRONLY | O_CREAT, 0600), STDERR_FILENO);
        execv(raw[0], raw.data());
        _exit(127);
    }
    int state = 0;
    rusage usage{};
    if (child < 0 || wait4(child, &state, 0, &usage) != child) throw std::runtime_error("cannot run " + arguments[0]);
    return {.status = WIFEXITED(state) ? WEXITSTATUS(state) : 128 + WTERMSIG(state),
            .output = read_file(output),
            .errors = read_file(errors),
            .peak_bytes = usage.ru_maxrss * 1024};
}

}  // namespace duologue
