#!/usr/bin/env python3
# Trains with the trainer and with its PyTorch peer in turn, round after round, on one machine, and prints rates and ratios.
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from provenance import provenance

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
    """All measurements of the peer, and which PyTorch it was."""
    command = [sys.executable, str(HERE / "torch_peer" / "train.py"), "speed", "--config", str(arguments.config)]
    command += ["--data", str(arguments.data), "--threads", str(arguments.cores), *arguments.overrides]
    command += ["--steps", str(arguments.steps), "--warmup", str(arguments.warmup), "--modes", *arguments.modes]
    command += ["--precisions", *arguments.precisions, "--max-seconds", str(arguments.peer_seconds)]
    command += ["--budgets", *map(str, arguments.budgets)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return lines[:-1], lines[-1]["torch"]


def spread(values):
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def measure(arguments):
    """One record: what each runner reached in every round, and the ratios of the medians."""
    cores = arguments.cores
    rates = {}
    shares = []

    def note(name, rate):
        rates.setdefault(name, []).append(rate)
        print(f"{name}: {rate:.0f} tokens/s", flush=True)

    one_rank, ranks_name = f"duologue, 1 rank x {cores} threads", f"duologue, {cores} ranks x 1 thread"
    for _ in range(arguments.rounds):
        run = train(arguments, 1, cores)
        shares.append(run["matmul_share"])
        note(one_rank, run["tokens_per_second"])
        measurements, torch = peer(arguments)
        for run in measurements:
            note(f"PyTorch {run['precision']} {run['mode']}, batches of {run['batch_tokens']}", run["tokens_per_second"])
        note(ranks_name, train(arguments, cores, 1)["tokens_per_second"])
    medians = {name: statistics.median(values) for name, values in rates.items()}
    best = max((name for name in medians if name.startswith("PyTorch")), key=medians.get)
    return {
        **provenance(),
        "torch": torch,
        "rounds": arguments.rounds,
        "tokens_per_second": {name: spread(values) for name, values in rates.items()},
        "matmul_share": spread(shares),
        "best_pytorch": best,
        "ratio_to_best_pytorch": medians[one_rank] / medians[best],
        "ranks_to_threads": medians[ranks_name] / medians[one_rank],
    }


def main():
    parser = argparse.ArgumentParser(
        description="Training speed against PyTorch", epilog="--section.key=value goes to the trainer and to the peer"
    )
    parser.add_argument("--data", required=True, type=Path, help="folder of shards")
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "small_cpu.json")
    parser.add_argument("--trainer", type=Path, default=ROOT / "build" / "bin" / "duologue")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10, help="timed steps of each run")
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--peer-seconds", type=float, default=60.0, help="per measurement of the peer, and its warm-up")
    parser.add_argument("--modes", nargs="+", default=["eager", "compiled"])
    parser.add_argument("--precisions", nargs="+", default=["f32", "bf16", "bf16_weights"])
    parser.add_argument("--budgets", nargs="+", type=int, default=[4096, 16384], help="padded tokens of the peer's batches")
    parser.add_argument("--output", type=Path, help="file for the record (JSON)")
    arguments, arguments.overrides = parser.parse_known_args()
    record = measure(arguments)
    text = json.dumps(record, indent=2) + "\n"
    if arguments.output:
        arguments.output.write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main()
