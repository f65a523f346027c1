#!/usr/bin/env python3
"""launch/ranks.sh in a terminal: Ctrl-C while two ranks train saves a checkpoint and ends with 0; the chat after training reads what is typed.

usage: terminal_test.py FOLDER_OF_PROGRAMS SAMPLE_FOLDER
"""
import os
import pathlib
import pty
import re
import select
import sys
import tempfile
import time

START_SECONDS = 90.0  # until the first steps, on a machine that is busy with other things
END_SECONDS = 60.0
RANKS_SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "launch/ranks.sh"


class Terminal:
    """A command on a terminal of its own, which it controls: what is typed there reaches it as from a keyboard."""

    def __init__(self, command):
        self.output = ""
        self.process, self.master = pty.fork()
        if self.process == 0:
            os.execv(command[0], command)

    def read(self, seconds):
        """Adds to the output what comes within the time; false at the end of all output."""
        if not select.select([self.master], [], [], seconds)[0]:
            return True
        try:
            piece = os.read(self.master, 65536)
        except OSError:  # the last process has closed the terminal
            return False
        self.output += piece.decode(errors="replace")
        return bool(piece)

    def wait_for(self, pattern, seconds):
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.output):
            if time.monotonic() > deadline or not self.read(1.0):
                sys.exit(f"FAIL: '{pattern}' did not come within {seconds} s:\n{self.output}")

    def finish(self, seconds):
        """The exit status, as a shell gives it."""
        deadline = time.monotonic() + seconds
        while self.read(1.0):
            if time.monotonic() > deadline:
                os.killpg(self.process, 9)
                sys.exit(f"FAIL: still running after {seconds} s:\n{self.output}")
        return os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])


def training(programs, sample, run, *options):
    return Terminal([str(RANKS_SCRIPT), "-n", "2", "--bind-to", "none", f"{programs}/duologue", "train",
                     "--config", f"{sample}/config.json", f"--output.path={run}", *options])


def check_interrupt(programs, sample, run):
    terminal = training(programs, sample, run, "--train.steps=100000")
    terminal.wait_for(r"step [0-9]+/[0-9]+  epoch", START_SECONDS)  # the line in place: mpirun's terminal is seen
    os.write(terminal.master, b"\x03")
    status = terminal.finish(END_SECONDS)
    assert status == 0, f"exit status {status}:\n{terminal.output}"
    stopped = re.search(r"stopped at step ([0-9]+) and saved", terminal.output)
    assert stopped, terminal.output
    checkpoint = run / "checkpoints" / f"step-{int(stopped[1]):09d}.h5"
    assert checkpoint.is_file(), f"there is no {checkpoint}:\n{terminal.output}"


def check_chat(programs, sample, run):
    terminal = training(programs, sample, run, "--chat.at_end=auto")
    terminal.wait_for(r"step [0-9]+/[0-9]+  epoch", START_SECONDS)
    os.write(terminal.master, b"/quit\n")  # to the shell, as it were: the chat has not begun
    terminal.wait_for(r"words, 60 steps of training.*/help[^$]*you> ", START_SECONDS)
    os.write(terminal.master, b"hello !\n")
    terminal.wait_for(r"bot> [^$]*you> ", END_SECONDS)
    os.write(terminal.master, b"\x04")
    status = terminal.finish(END_SECONDS)
    assert status == 0, f"exit status {status}:\n{terminal.output}"


def check_background(programs, sample, run):
    """Nobody types to a job in the background: it opens no chat, and leaves what is typed to others."""
    job = f"{RANKS_SCRIPT} -n 2 --bind-to none {programs}/duologue train --config {sample}/config.json"
    terminal = Terminal(["/bin/bash", "--norc", "-i"])
    os.write(terminal.master, f"{job} --output.path={run} --chat.at_end=auto >{run}.log 2>&1 & wait $!; echo ended $?\n".encode())
    terminal.wait_for(r"ended 0", START_SECONDS)
    log = pathlib.Path(f"{run}.log").read_text()
    assert "no terminal and no input, so no chat" in log, log
    os.write(terminal.master, b"exit\n")
    terminal.finish(END_SECONDS)


def main():
    for check in (check_interrupt, check_chat, check_background):
        with tempfile.TemporaryDirectory() as folder:
            check(*sys.argv[1:], pathlib.Path(folder) / "run")


if __name__ == "__main__":
    main()
