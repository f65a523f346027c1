#!/usr/bin/env python3
# Speed, memory and kernels of a training step on one GPU, beside PyTorch in the same run and beside the floor; writes JSON.
import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import floor
import kernel_kinds
from device_memory import MemoryWatch

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent

MODELS = {
    "base": {"shape": floor.BASE, "config": "base.json", "side_tokens": 25000},
    "big": {"shape": floor.BIG, "config": "big.json", "side_tokens": 25000},
    # For trying this script itself out on a CPU.
    "toy": {
        "shape": floor.Shape(width=64, hidden=128, layers=1, vocabulary=500), "config": "base.json", "side_tokens": 1500,
        "options": ["--model.width=64", "--model.heads=2", "--model.hidden=128", "--model.encoder_layers=1",
                    "--model.decoder_layers=1"],
    },
}  # fmt: skip
LONGEST = 256  # tokens of a side
LEAST_RATIO, LEAST_SHARE = 1.3, 0.5  # of PyTorch's rate, of the floor's
# Sizes of micro-batches that a run meets for the first or second time cost it more: products are timed, plans compiled, graphs
# captured. Two sizes are nearly all of a training's (src/backend/cuda/README.md), and one of them may come late. What is
# reported is therefore the median step, and of the traced steps those that took about as long.
WARMUP_STEPS, PEER_WARMUP_STEPS, TRACED_STEPS = 24, 8, 16


class Unmeasured(Exception):
    """Why something could not be measured."""


class Bench:
    def __init__(self, arguments):
        self.arguments, self.model = arguments, MODELS[arguments.model]
        self.end = time.monotonic() + arguments.seconds
        self.work = arguments.work.absolute()
        self.work.mkdir(parents=True, exist_ok=True)
        self.on_gpu = arguments.device == "cuda"

    def program(self, name, *options):
        launcher = [self.arguments.launcher] if self.arguments.launcher else []
        return [*launcher, str(self.arguments.programs.absolute() / name), *map(str, options)]

    def call(self, command, **more):
        """Runs a command to its end, which prints to our standard error; Unmeasured if it fails."""
        done = subprocess.run(command, stdout=sys.stderr, **more)
        if done.returncode != 0:
            raise Unmeasured(f"exit status {done.returncode} of {' '.join(map(str, command))}")

    def memory(self):
        """Watches the memory of the device; without a GPU there is none to watch."""
        return MemoryWatch() if self.on_gpu else contextlib.nullcontext()

    def shards(self):
        """Shards of conversations of one question and one reply, enough for every step of ours and of the peer's."""
        vocabulary, side = self.model["shape"].vocabulary, self.model["side_tokens"]
        # The peer leaves out the last batch of each layer of lengths, ours what does not fit a micro-batch.
        steps = int(1.2 * (self.arguments.steps + max(self.arguments.warmup, PEER_WARMUP_STEPS))) + 12
        folder = self.work / f"shards-{vocabulary}-{side * steps}"
        if not (folder / "manifest.json").exists():
            shutil.rmtree(folder, ignore_errors=True)
            corpus = self.work / f"{folder.name}.jsonl"
            make = [sys.executable, HERE / "make_corpus.py", "--tokens", side * steps, "--longest", LONGEST]
            with open(corpus, "w") as file:
                subprocess.run([*map(str, make), "--words", str(vocabulary - 4)], stdout=file, check=True)
            options = ("--vocabulary-size", vocabulary, "--validation-percent", 0, "--output", folder)
            self.call(self.program("duologue-preprocess", corpus, *options))
        return folder

    def options(self):
        """What the trainer and the peer are both told."""
        side = self.model["side_tokens"]
        return [f"--data.max_context_tokens={LONGEST}", f"--data.max_reply_tokens={LONGEST}",
                f"--data.micro_batch_tokens={side}", f"--train.precision={self.arguments.precision}",
                *self.model.get("options", [])]  # fmt: skip

    def train(self, name, steps, environment=None):
        """Runs our trainer; returns its step events and its folder."""
        output = self.work / name
        shutil.rmtree(output, ignore_errors=True)
        output.mkdir()
        command = self.program(
            "duologue", "train", "--config", ROOT / "configs" / self.model["config"], f"--data.path={self.shards()}",
            f"--output.path={output}", f"--device.kind={self.arguments.device}", f"--train.steps={steps}",
            f"--data.micro_batch_reply_tokens={self.model['side_tokens']}", "--train.micro_batches_per_step=1",
            "--checkpoint.interval_steps=0", "--train.validation_interval_steps=1000000", "--chat.at_end=never",
            f"--device.attention={self.arguments.attention}", *self.options(),
        )  # fmt: skip
        self.call(command, cwd=output, env={**os.environ, **(environment or {})})
        with open(output / "metrics.jsonl") as file:
            events = [event for event in map(json.loads, file) if event["event"] == "step"]
        for large in ("checkpoints", "model"):
            shutil.rmtree(output / large, ignore_errors=True)
        return events, output

    def ours(self):
        with self.memory() as watch:
            events, _ = self.train("ours", self.arguments.warmup + self.arguments.steps)
        timed = events[self.arguments.warmup :]
        times = [event["seconds"] for event in timed]
        median = statistics.median(times)
        sides = {side: sum(event[f"{side}_tokens_per_second"] * event["seconds"] for event in timed)
                 for side in ("source", "target")}  # fmt: skip
        return {
            **({"device_bytes": watch.peak_bytes} if watch else {}),
            "tokens_per_second": sum(sides.values()) / len(timed) / median,
            "median_step_ms": 1e3 * median,
            "mean_step_ms": 1e3 * statistics.mean(times),
            "step_ms": [round(1e3 * time, 3) for time in times],
            "source_tokens_per_step": sides["source"] / len(timed),
            "target_tokens_per_step": sides["target"] / len(timed),
        }

    def our_kernels(self):
        """A run of its own, because writing down kernels takes time."""
        library = self.arguments.programs.absolute() / "libkernel_times.so"
        if not library.exists():
            raise Unmeasured(f"{library} is missing; it is built with the preset cuda")
        _, output = self.train("traced", WARMUP_STEPS + TRACED_STEPS, {"CUDA_INJECTION64_PATH": str(library)})
        written = output / "kernel_times.tsv"
        if not written.exists():
            raise Unmeasured(f"the driver could not load {library}, or CUPTI refused")
        return kernel_kinds.summary(*kernel_kinds.usual_steps(kernel_kinds.read(written), TRACED_STEPS))

    def peer_lines(self, command):
        """What the peer prints, each line when it comes; at last whether it was ended before it was done."""
        with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True) as process:
            timer = threading.Timer(max(self.end - time.monotonic(), 0.0), process.kill)
            timer.start()
            yield from (json.loads(line) for line in process.stdout if line.startswith("{"))
            timer.cancel()
        yield {"unfinished": process.returncode != 0}

    def peer(self):
        """The fastest of those of the peer's runs that came to an end, and what else of it was measured."""
        command = [sys.executable, HERE / "torch_peer" / "gpu_speed.py", "--config", ROOT / "configs" / self.model["config"],
                   "--data", self.shards(), "--device", self.arguments.device, "--precision", self.arguments.precision,
                   "--steps", self.arguments.steps, "--warmup", PEER_WARMUP_STEPS, "--step-tokens",
                   2 * self.model["side_tokens"], *self.options(), "--modes", *self.arguments.modes]  # fmt: skip
        runs, rest, peak = [], {}, 0
        with self.memory() as watch:
            for line in self.peer_lines(command):
                if "mode" in line:
                    runs.append(line)
                    peak = watch.peak_bytes if watch else 0  # without what tracing takes, which comes last
                else:
                    rest.update(line)
        if not runs:
            raise Unmeasured("none of its runs came to an end")
        best = max(runs, key=lambda run: run["tokens_per_second"])
        if self.on_gpu:  # of the best run alone: what the process takes beside its tensors, and that run's tensors
            beside = peak - max(run["reserved_bytes"] for run in runs)
            rest["device_bytes"] = beside + best["reserved_bytes"]
        return {**rest, **best, "runs": runs}


class Report:
    """All that is known so far. It is written after each part: what is ended early has lost its last part only."""

    def __init__(self, arguments):
        self.arguments, self.ours, self.peer, self.missing = arguments, None, None, []

    def measure(self, what, part):
        """What `part` returns, or None and a word of why; the other parts go on."""
        try:
            return part()
        except Exception as problem:
            self.missing.append(f"{what}: {problem if isinstance(problem, Unmeasured) else repr(problem)}")

    def write(self):
        found = compare(self.ours, self.peer, MODELS[self.arguments.model]["shape"])
        settings = {name: getattr(self.arguments, name) for name in ("model", "device", "precision", "attention", "modes")}
        written = {**settings, **found, "not_measured": self.missing, "figure": figure(self.ours, self.peer, found),
                   "ours": self.ours, "peer": self.peer}  # fmt: skip
        part = self.arguments.output.with_suffix(".part")
        part.write_text(json.dumps(written, indent=2) + "\n")
        part.replace(self.arguments.output)
        return written


def compare(ours, peer, shape):
    """Ratios, the floor for as many tokens as we trained on, and what is below the bar."""
    parts = floor.step_seconds(shape, ours["source_tokens_per_step"], ours["target_tokens_per_step"])
    found = {"floor_ms": 1e3 * sum(parts.values()), "floor_ms_by_kind": {k: 1e3 * v for k, v in parts.items()}}
    found["share_of_floor"] = found["floor_ms"] / ours["median_step_ms"]
    below = []
    if found["share_of_floor"] < LEAST_SHARE:
        below.append(f"{100 * found['share_of_floor']:.0f} % of the floor's rate, {100 * LEAST_SHARE:.0f} % asked")
    if peer:
        found["ratio"] = ours["tokens_per_second"] / peer["tokens_per_second"]
        if found["ratio"] < LEAST_RATIO:
            below.append(f"{found['ratio']:.2f}x PyTorch, {LEAST_RATIO}x asked")
        if ours.get("device_bytes", 0) > peer.get("device_bytes", 0):
            below.append("more memory than PyTorch")
    return {**found, "below_the_bar": below}


def figure(ours, peer, found):
    gib = 2**30
    words = [f"{ours['tokens_per_second']:,.0f} tokens/s", f"{ours['median_step_ms']:.1f} ms a step",
             f"{100 * found['share_of_floor']:.1f} % of the floor's rate"]  # fmt: skip
    if peer:
        words.append(f"{found['ratio']:.2f}x PyTorch ({peer['tokens_per_second']:,.0f})")
        if "device_bytes" in ours:
            words.append(f"{ours['device_bytes'] / gib:.1f} GiB against {peer['device_bytes'] / gib:.1f}")
    return ", ".join(words)


def main():
    parser = argparse.ArgumentParser(description="A training step beside PyTorch and the floor")
    parser.add_argument("--model", choices=MODELS, default="base")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--precision", choices=["bf16", "f32"], default="bf16")
    parser.add_argument("--attention", choices=["auto", "cudnn", "own"], default="auto", help="ours")
    parser.add_argument("--programs", type=Path, default=ROOT / "build-cuda" / "bin")
    parser.add_argument("--launcher", help="what runs a program, in a bundle")
    parser.add_argument("--steps", type=int, default=40, help="timed ones")
    parser.add_argument("--warmup", type=int, default=WARMUP_STEPS, help="steps of ours before them")
    parser.add_argument("--modes", nargs="+", default=["compiled"], choices=["eager", "compiled"], help="of the peer")
    parser.add_argument("--without-peer", action="store_true")
    parser.add_argument("--work", type=Path, default=Path("output/gpu_bench"), help="folder for data and runs")
    parser.add_argument("--output", type=Path, required=True, help="JSON file with every number")
    parser.add_argument("--seconds", type=float, default=1e6, help="end the peer after so long, from the start")
    arguments = parser.parse_args()
    bench, report = Bench(arguments), Report(arguments)
    try:
        report.ours = bench.ours()
    except Unmeasured as problem:
        sys.exit(f"gpu_bench.py: {problem}")
    report.write()
    if bench.on_gpu:
        report.ours["kernels"] = report.measure("our kernels", bench.our_kernels)
        report.write()
    if not arguments.without_peer:  # last, because it takes longest and is what is cut off
        report.peer = report.measure("PyTorch", bench.peer)
        if report.peer and report.peer["unfinished"]:
            report.missing.append("PyTorch: all runs and its kernels; it failed, or there was no more time")
    show(report.write())


def show(written):
    print(written["figure"])
    for name, side in (("ours", written["ours"]), ("PyTorch", written["peer"])):
        if side and side.get("kernels"):
            kinds = ", ".join(f"{kind} {ms:.2f}" for kind, ms in side["kernels"]["kinds_ms"].items())
            print(f"{name}, ms a step: {kinds}, idle {side['kernels']['idle_ms']:.2f}")
    print(f"floor, ms a step: {', '.join(f'{kind} {ms:.2f}' for kind, ms in written['floor_ms_by_kind'].items())}")
    if written["not_measured"]:
        print(f"not measured: {'; '.join(written['not_measured'])}")


if __name__ == "__main__":
    main()
