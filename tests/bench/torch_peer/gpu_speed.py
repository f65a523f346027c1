# The peer on one device: times training steps of about equally many tokens, its memory and its kernels; JSON a line a run.
import argparse
import gc
import json
import random
import statistics
import sys
import time
from pathlib import Path

import torch
from data import bucketed_on_both_sides, manifest, read_shards
from settings import load_settings
from train import Trainer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import kernel_kinds  # noqa: E402


def synchronize(device):
    if device == "cuda":
        torch.cuda.synchronize()


def run(trainer, steps):
    """Seconds of each step, which is a list of padded batches."""
    seconds = []
    for batches in steps:
        begin = time.perf_counter()
        labels = sum(len(batch.labels) for batch in batches)
        for batch in batches:
            trainer.accumulate(batch, labels)
        trainer.update()
        synchronize(trainer.device)
        seconds.append(time.perf_counter() - begin)
    return seconds


def kernel_summary(trainer, steps):
    """By kind of kernel, from PyTorch's own profiler; the ranges that it marks on the GPU around kernels are none."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        run(trainer, steps)
    found = sorted(
        (event.time_range.start * 1e-6, event.time_range.end * 1e-6, event.name)
        for event in profile.events()
        if event.device_type == torch.autograd.DeviceType.CUDA and not event.is_user_annotation
    )
    if not found:
        raise SystemExit("the profiler recorded no kernel")
    return kernel_kinds.summary(found, found[-1][1] - found[0][0], len(steps))


def make_steps(arguments, examples, batches_per_step, seed):
    """More batches a step mean less padding, since examples of a batch are more alike, but smaller kernels. All are on
    the device before the clock starts: reading and moving data costs the peer nothing."""
    batches = bucketed_on_both_sides(examples, arguments.step_tokens // batches_per_step)
    random.Random(seed).shuffle(batches)
    needed = arguments.warmup + arguments.steps
    if len(batches) < needed * batches_per_step:
        sys.exit(f"{len(examples)} examples make {len(batches)} batches; {needed * batches_per_step} are needed")
    batches = [batch.to(arguments.device) for batch in batches[: needed * batches_per_step]]
    return [batches[i : i + batches_per_step] for i in range(0, len(batches), batches_per_step)]


def measure(trainer, steps, arguments):
    device, warmup = trainer.device, arguments.warmup
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    warming = sum(run(trainer, steps[:warmup]))
    timed = steps[warmup:]
    seconds = run(trainer, timed)
    median = statistics.median(seconds)  # as of ours: a step in which something is compiled anew does not count
    tokens = sum(batch.tokens for batches in timed for batch in batches)
    padded_tokens = sum(batch.padded_tokens for batches in timed for batch in batches)
    result = {
        "precision": arguments.precision,
        "batches_per_step": len(timed[0]),
        "tokens_per_second": tokens / len(timed) / median,
        "median_step_ms": 1e3 * median,
        "mean_step_ms": 1e3 * statistics.mean(seconds),
        "tokens_per_step": tokens / len(timed),
        "padded_share": 1 - tokens / padded_tokens,
        "warmup_seconds": warming,
    }
    if device == "cuda":
        result["allocated_bytes"] = torch.cuda.max_memory_allocated()
        result["reserved_bytes"] = torch.cuda.max_memory_reserved()
    return result


def tell(found):
    """A line for whoever waits: what was measured before this program is ended is not lost."""
    print(json.dumps(found), flush=True)


def main():
    parser = argparse.ArgumentParser(description="Speed of the PyTorch peer on one device")
    parser.add_argument("--config", required=True, type=Path)
    parser.add_argument("--data", required=True, type=Path, help="folder of shards")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--precision", default="bf16", choices=["bf16", "f32"])
    parser.add_argument("--modes", nargs="+", default=["compiled"], choices=["eager", "compiled"])
    parser.add_argument("--step-tokens", type=int, default=50000, help="source and target tokens of a step, padding aside")
    parser.add_argument("--batches-per-step", nargs="+", type=int, default=[2, 4, 1, 8], help="each is tried, if compiled")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--warmup", type=int, default=8)
    arguments, overrides = parser.parse_known_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit(f"PyTorch {torch.__version__} sees no GPU")
    settings = load_settings(arguments.config, overrides)
    examples = read_shards(arguments.data, "train", settings, sys.maxsize)
    vocabulary = manifest(arguments.data)["vocabulary_size"]
    tell({"torch": torch.__version__})
    for mode in arguments.modes:
        trainer = None  # that of another mode, whose memory is not this one's
        gc.collect()
        trainer = Trainer(settings, vocabulary, arguments.precision, mode == "compiled", arguments.device)
        rates = {}
        splits = arguments.batches_per_step if mode == "compiled" else arguments.batches_per_step[:1]
        for batches_per_step in splits:
            steps = make_steps(arguments, examples, batches_per_step, settings.train.seed)
            found = measure(trainer, steps, arguments)
            rates[batches_per_step] = found["tokens_per_second"]
            tell({"mode": mode, **found})
    if arguments.device == "cuda":  # of the last mode alone, the one to compare with
        steps = make_steps(arguments, examples, max(rates, key=rates.get), settings.train.seed)
        tell({"kernels": kernel_summary(trainer, steps[-10:])})


if __name__ == "__main__":
    main()
