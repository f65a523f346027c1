#!/usr/bin/env python3
# Trains with the trainer and with its PyTorch peer in turn, on one machine in one run, and prints rates and ratios.
import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def mpi_environment():
    """What launch/common.sh sets: root may run, more ranks than cores are fine, plain copies between processes."""
    environment = dict(os.environ, OMPI_MCA_rmaps_base_oversubscribe="1")
    environment["OMPI_MCA_btl_vader_single_copy_mechanism"] = "none"
    if os.geteuid() == 0:
        environment.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    return environment


def events(path, kind):
    with open(path) as file:
        return [event for event in map(json.loads, file) if event["event"] == kind]


def train(arguments, ranks, threads):
    """Tokens a second and share of the matmul peak of a run of the trainer, its first steps left out."""
    with tempfile.TemporaryDirectory() as output:
        command = ["mpirun", "-n", str(ranks), "--bind-to", "none", str(arguments.trainer), "train"]
        command += ["--config", str(arguments.config), f"--data.path={arguments.data}", f"--output.path={output}"]
        command += [f"--train.steps={arguments.steps + arguments.warmup}", f"--device.threads={threads}"]
        command += ["--train.log_interval_steps=1", "--train.validation_interval_steps=1000000"]
        command += ["--checkpoint.interval_steps=1000000", "--chat.at_end=never", *arguments.overrides]
        done = subprocess.run(command, env=mpi_environment(), capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"the trainer failed:\n{' '.join(command)}\n{done.stdout}{done.stderr}")
        steps = events(Path(output) / "metrics.jsonl", "step")[arguments.warmup :]
    seconds = sum(step["seconds"] for step in steps)
    tokens = sum(
        (step["source_tokens_per_second"] + step["target_tokens_per_second"]) * step["seconds"] for step in steps
    )
    share = sum(step["matmul_share"] * step["seconds"] for step in steps) / seconds
    return {"tokens_per_second": tokens / seconds, "matmul_share": share}


def peer(arguments):
    """All measurements of the peer; the last holds the best."""
    command = [sys.executable, str(HERE / "torch_peer" / "train.py"), "speed", "--config", str(arguments.config)]
    command += ["--data", str(arguments.data), "--threads", str(arguments.cores), *arguments.overrides]
    command += ["--steps", str(arguments.steps), "--modes", *arguments.modes]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def main():
    parser = argparse.ArgumentParser(
        description="Training speed against PyTorch", epilog="--section.key=value goes to the trainer and to the peer"
    )
    parser.add_argument("--data", required=True, type=Path, help="folder of shards")
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "small_cpu.json")
    parser.add_argument("--trainer", type=Path, default=ROOT / "build" / "bin" / "duologue")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10, help="timed steps of each run")
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--modes", nargs="+", default=["eager", "compiled"])
    arguments, arguments.overrides = parser.parse_known_args()
    cores = arguments.cores

    # The trainer runs before and after the peer, so that a machine that slows down meanwhile shows.
    threads = [train(arguments, 1, cores)]
    measurements = peer(arguments)
    threads.append(train(arguments, 1, cores))
    ranks = train(arguments, cores, 1)

    for run in threads:
        print(f"duologue, 1 rank x {cores} threads: {run['tokens_per_second']:9.0f} tokens/s, "
              f"{100 * run['matmul_share']:.1f} % of the matmul peak")
    print(f"duologue, {cores} ranks x 1 thread: {ranks['tokens_per_second']:9.0f} tokens/s")
    for run in measurements[:-1]:
        print(f"PyTorch {run['precision']} {run['mode']}, batches of {run['batch_tokens']}: "
              f"{run['tokens_per_second']:9.0f} tokens/s")
    ours = sum(run["tokens_per_second"] for run in threads) / len(threads)
    best = measurements[-1]["best"]
    bf16 = max((run["tokens_per_second"] for run in measurements[:-1] if run["precision"] == "bf16"), default=None)
    print(f"duologue / best PyTorch ({best['precision']} {best['mode']}): {ours / best['tokens_per_second']:.2f}")
    if bf16:
        print(f"duologue / best PyTorch bf16: {ours / bf16:.2f}")
    print(f"{cores} ranks x 1 thread / 1 rank x {cores} threads: {ranks['tokens_per_second'] / ours:.2f}")


if __name__ == "__main__":
    main()
