# Session: runs the project's programs for the checks, each bounded in time and with its output kept in a file.
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path


class CheckFailed(Exception):
    """What a check says when it does not pass, and what it has measured all the same."""

    def __init__(self, figure, numbers=None):
        super().__init__(figure)
        self.numbers = numbers or {}


class OutOfTime(CheckFailed):
    """A check did not end within its time."""


@dataclass
class Outcome:
    """What a check found: one short figure for the table, all numbers for the summary."""

    figure: str
    numbers: dict = field(default_factory=dict)


def end_group(process):
    """Ends a process and all it started: in order where it listens (mpirun then ends its ranks), then at once. One that
    the kernel does not let go, as a driver in trouble holds it, is left: what comes after it is bounded in time too."""
    for sign, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            return
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            continue


class Session:
    """Where the programs are, where output goes, and when the current check has to be done."""

    def __init__(self, root, programs, output, options):
        self.root, self.programs, self.output, self.options = Path(root), Path(programs), Path(output), options
        self.deadline = time.monotonic() + 3600.0
        self.starting, self.end_status = False, 0  # for end()
        self.made = {}  # what several checks use and the first of them makes
        run = self.root / "run"
        self.in_bundle = run.exists()
        self.launcher = [str(run)] if self.in_bundle else []

    @property
    def quick(self):
        return self.options.quick

    def program(self, name, *arguments):
        """The command of one of the project's programs."""
        path = self.programs / name
        if not os.access(path, os.X_OK):
            raise CheckFailed(f"there is no program {path}; build the preset cuda, or unpack a bundle of it")
        return [*self.launcher, str(path), *map(str, arguments)]

    def under_mpi(self, ranks, command):
        """The same command on several ranks of this machine."""
        without_launcher = command[len(self.launcher) :]
        return [*self.launcher, "mpirun", "-n", str(ranks), "--bind-to", "none", *without_launcher]

    def environment(self, extra):
        # mpirun gives its ranks a terminal, for which GoogleTest would colour the words that are looked for.
        environment = dict(os.environ, OMPI_MCA_rmaps_base_oversubscribe="1", GTEST_COLOR="no")
        environment.setdefault("OMPI_MCA_btl_vader_single_copy_mechanism", "none")
        if os.geteuid() == 0:
            environment.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
        environment.update(extra or {})
        return environment

    def end(self, signal_number, _frame=None):
        """Handles a signal: ends this program as an exception does, so that what runs is ended too. A program that is
        just being started is waited for, because nobody could end it yet."""
        self.end_status = 128 + signal_number
        if not self.starting:
            sys.exit(self.end_status)

    def start(self, command, file, environment):
        self.starting = True
        try:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, cwd=self.root,
                env=self.environment(environment), start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            self.starting = False
            raise CheckFailed(f"cannot start {command[0]}: {error.strerror}") from error

    def run(self, name, command, environment=None, expect=(0,)):
        """Runs a command, both its outputs into the file NAME.log; returns that text. CheckFailed unless its exit
        status is one of `expect`, OutOfTime when the current check's time is over."""
        return self.run_together({name: (command, environment)}, expect)[0]

    def run_together(self, jobs, expect=(0,)):
        """run() for several at once: {name: (command, environment)}; their texts."""
        with contextlib.ExitStack() as running:
            processes = {name: self.begin(running, name, *job) for name, job in jobs.items()}
            statuses = {name: self.wait(name, process) for name, process in processes.items()}
        texts = {name: self.log(name).read_text(errors="replace") for name in jobs}
        for name, status in statuses.items():
            if status not in expect:
                raise CheckFailed(f"exit status {status}: {last_words(texts[name])} ({self.log(name)})")
        return list(texts.values())

    def log(self, name):
        return self.output / f"{name}.log"

    def begin(self, running, name, command, environment):
        """Starts a command, which is ended with `running` whatever happens."""
        if self.deadline <= time.monotonic():
            raise OutOfTime(f"no time was left for {Path(command[0]).name}")
        self.log(name).parent.mkdir(parents=True, exist_ok=True)
        with open(self.log(name), "wb") as file:
            file.write(f"$ {' '.join(command)}\n".encode())
            file.flush()
            process = self.start(command, file, environment)
            running.callback(end_group, process)
        self.starting = False
        if self.end_status:
            sys.exit(self.end_status)
        return process

    def wait(self, name, process):
        try:
            return process.wait(max(self.deadline - time.monotonic(), 0.0))
        except subprocess.TimeoutExpired:
            said = last_words(self.log(name).read_text(errors="replace"))
            raise OutOfTime(f"still running after its time; the last it said: {said} ({self.log(name)})") from None


def last_words(text):
    """The last line that names an error, since mpirun has more to say after it; else the last one. Shortened."""
    lines = [line.strip() for line in text.splitlines()[1:] if line.strip()]
    told = [line for line in lines if "error:" in line.lower()] or lines
    return told[-1][:200] if told else "it printed nothing"


def events(path, kind):
    """The events of one kind in a metrics.jsonl."""
    with open(path) as file:
        return [event for event in map(json.loads, file) if event["event"] == kind]
