"""What the toolkit calls on every host: prepares the data there, lets it run the ranks, and delivers the model."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from sagemaker_training import entry_point, environment, errors, params, process, runner

SCRATCH = Path("/tmp/duologue")
SHARDS = SCRATCH / "shards"
TRANSCRIPT = SCRATCH / "transcript.txt"
# The trainer's output.path: what SageMaker keeps in S3 while the job runs, so that a restarted job goes on from there.
RUN = Path("/opt/ml/checkpoints")
MODEL = RUN / "model"


def fail(message):
    """Ends the job: what a ClientError says stands first in the failure reason, without a traceback."""
    raise errors.ClientError(f"RuntimeError: {message}")


def run(command, what):
    """Runs a program of the image, showing what it says; its last line of error is the job's failure reason."""
    print(f"{what}: {' '.join(command)}"[:1000])
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, errors="replace", check=False)
    print(done.stderr, end="")
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"no message, exit status {done.returncode}"]
        fail(f"{what}: {lines[-1].removeprefix('error: ')}")


def raw_conversations(channel, hyperparameters):
    """The conversation files of a channel, in an order that does not depend on the host.

    Prompts may lie beside them, and files that hyperparameters name: a configuration or a vocabulary.
    """
    named = {Path(str(value)) for value in hyperparameters.values()}
    files = (path for path in channel.rglob("*") if path.is_file() and path not in named)
    return sorted(path for path in files if path.name != "prompts.txt" and not path.name.startswith("."))


def preprocess_options(hyperparameters):
    """`preprocess.min_count: 2` or `preprocess__min_count: 2` as `--min-count 2`."""
    options = []
    for name, value in sorted(hyperparameters.items()):
        section, _, key = name.replace("__", ".", 1).partition(".")
        if section == "preprocess":
            options += [f"--{key.replace('_', '-')}", str(value)]
    return options


def prepare_data(env):
    """Shards in the channel stay where they are; raw conversations are made into shards, once on each host.

    Preprocessing gives the same files for the same input, so every host has the same shards; the trainer compares
    their checksums before its first step.
    """
    channel = env.channel_input_dirs.get("training")
    if channel is None:
        fail(f"there is no channel named 'training'; the job has: {', '.join(env.channel_input_dirs) or 'none'}")
    if (Path(channel) / "manifest.json").exists():
        return
    inputs = raw_conversations(Path(channel), env.hyperparameters)
    if not inputs:
        fail("the channel 'training' holds neither shards (a manifest.json) nor conversation files")
    shutil.rmtree(SHARDS, ignore_errors=True)
    run(
        ["duologue-preprocess", *map(str, inputs), "--output", str(SHARDS), "--workers", str(env.num_cpus)]
        + preprocess_options(env.hyperparameters),
        "preprocessing",
    )


def export_newest_checkpoint():
    """The model of the newest checkpoint that can be read, for a job that was stopped before its end."""
    for checkpoint in sorted((RUN / "checkpoints").glob("step-*.h5"), reverse=True):
        command = ["duologue", "export", "--checkpoint", str(checkpoint), "--output", str(MODEL)]
        if subprocess.run(command, check=False).returncode == 0:
            return
    print("there is no checkpoint to make a model of, so this job delivers none")


def deliver(env):
    """Puts model, transcript and records where SageMaker uploads them from, on the host of rank 0.

    The model folder may be a mount point, which nothing can be renamed onto; so its files are moved in one by one.
    """
    if not MODEL.is_dir():
        export_newest_checkpoint()
    model_dir = Path(env.model_dir)
    model_dir.mkdir(parents=True, exist_ok=True)
    for file in sorted(MODEL.iterdir()) if MODEL.is_dir() else []:
        shutil.move(file, model_dir / file.name)
    shutil.rmtree(MODEL, ignore_errors=True)
    if TRANSCRIPT.exists() and TRANSCRIPT.stat().st_size > 0:
        shutil.copyfile(TRANSCRIPT, model_dir / "transcript.txt")
    deliver_records(Path(env.output_data_dir))


def deliver_records(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "metrics.jsonl"):
        if (RUN / name).exists():
            shutil.copyfile(RUN / name, folder / name)


# How mpirun names the rank that ended the job, where its shell reports the end, and where a signal is seen by mpirun itself.
LOST_RANK = "Process name: [["
LOST_BY_SIGNAL = "mpirun noticed that process rank"


def explain(error):
    """A reason for a rank that ended without one, for example because the system had no memory left for it."""
    lost = re.search(r"Process name: \[\[\d+,\d+\],(\d+)\]\s+Exit code:\s+(\d+)", error.output or "")
    if "RuntimeError" in (error.output or "") or lost is None:
        raise error
    rank, status = int(lost[1]), int(lost[2])
    cause = f" (signal {status - 128}; a 9 is mostly a lack of memory)" if status > 128 else ""
    fail(f"rank {rank} ended without a word, exit status {status}{cause}")


def run_ranks(env):
    # The toolkit keeps what is said from the first line on that holds one of these.
    process._MPI_ERRORS_.extend([LOST_RANK, LOST_BY_SIGNAL])  # pylint: disable=protected-access
    try:
        entry_point.run(
            env.module_dir,
            env.user_entry_point,
            env.to_cmd_args(),
            env.to_env_vars(),
            runner_type=runner_type(env),
            capture_error=True,
        )
    except errors.ExecuteUserScriptError as error:
        explain(error)


def runner_type(env):
    enabled = env.additional_framework_parameters.get(params.MPI_ENABLED)
    in_group = env.current_instance_group in env.distribution_instance_groups
    return runner.RunnerType.MPI if enabled and in_group else runner.RunnerType.Process


def main():
    env = environment.Environment()
    os.environ.setdefault("DUOLOGUE_STOP_FILE", "/tmp/duologue.stop")
    SCRATCH.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(MODEL, ignore_errors=True)  # an earlier job's, brought back with its checkpoints
    prepare_data(env)
    run_ranks(env)
    if env.is_master:
        deliver(env)
