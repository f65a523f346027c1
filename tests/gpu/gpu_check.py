# The command behind launch/gpu_check.sh: which checks there are, which are asked for, where their results go.
import argparse
import datetime
import platform
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import checks
from report import Check, run_checks, table, verdict, write_summary
from session import Session

ROOT = Path(__file__).resolve().parent.parent.parent


def bound(function, *arguments):
    return partial(lambda session: function(session, *arguments))


# Cheap ones first: what they find explains what fails later.
ALL_CHECKS = [
    Check("machine", "there is a GPU", 20, checks.machine, needs_gpu=False),
    Check("doctor", "the program finds the GPU and its libraries", 40, checks.doctor),
    Check("contract_f32", "every operation against the reference, f32", 90, bound(checks.contract, "f32")),
    Check("contract_bf16", "every operation against the reference, bf16", 120, bound(checks.contract, "bf16")),
    Check("golden", "the model against values of PyTorch", 60, checks.golden),
    Check("curve_f32", "demo, no dropout: losses of CPU and GPU agree", 90, bound(checks.curve, "f32", 0)),
    Check("curve_dropout", "demo, dropout 0.1: losses agree, so masks are equal", 90, bound(checks.curve, "f32", 0.1)),
    Check("curve_bf16", "demo, dropout 0.1, bf16: losses agree with the CPU's f32", 60, bound(checks.curve, "bf16", 0.1)),
    Check("resume", "stopped and resumed = unbroken, bit for bit", 60, checks.resume),
    Check("graphs", "micro-batches as CUDA graphs = kernel by kernel, bit for bit", 90, checks.graphs),
    Check("decode", "greedy replies of CPU and GPU are equal", 60, checks.decode),
    Check("nccl_1", "exact sums through NCCL, one rank", 40, bound(checks.nccl, 1)),
    Check("nccl_2", "exact sums through NCCL, two ranks on one GPU", 90, bound(checks.nccl, 2)),
    Check("nccl_4", "exact sums through NCCL, four ranks on one GPU", 120, bound(checks.nccl, 4)),
    Check("train_2_ranks", "demo by two ranks on one GPU as by one on the CPU", 120, bound(checks.ranks_on_one_gpu, 2)),
    Check("memcheck", "compute-sanitizer finds no bad access in two steps", 120, bound(checks.sanitize, "memcheck")),
    Check("racecheck", "compute-sanitizer finds no race in two steps", 120, bound(checks.sanitize, "racecheck")),
    Check("attention", "base with cuDNN's attention and with our own", 120, checks.attention),
    Check("bench_base", "Transformer base against PyTorch and the floor", 270, bound(checks.benchmark, "base")),
    Check("bench_big", "Transformer big against PyTorch and the floor", 330, bound(checks.benchmark, "big")),
]


def parse(arguments):
    parser = argparse.ArgumentParser(
        prog="launch/gpu_check.sh", description="Checks the GPU side of duologue on this machine, and measures it."
    )
    parser.add_argument("checks", nargs="*", metavar="CHECK", help="only these, or all of a kind: bench, nccl, ... (default: all); machine runs first")
    parser.add_argument("--list", action="store_true", help="list the checks and end")
    parser.add_argument("--output", type=Path, default=Path("output/gpu_check"), help="folder for logs and summary.json")
    parser.add_argument("--programs", type=Path, help="folder of the programs (default: the bundle's, or build-cuda/bin)")
    parser.add_argument("--quick", action="store_true", help="fewer steps")
    parser.add_argument("--without-sanitizer", action="store_true", help="leave out memcheck and racecheck")
    parser.add_argument("--limit", type=float, default=585.0, metavar="SECONDS", help="for all checks together")
    options = parser.parse_args(arguments)
    for name in options.checks:
        if not any(is_named(check, name) for check in ALL_CHECKS):
            parser.error(f"there is no check '{name}'; there are {', '.join(check.name for check in ALL_CHECKS)}")
    return options


def is_named(check, name):
    """`bench` names bench_base and bench_big."""
    return check.name == name or check.name.startswith(f"{name}_")


def chosen(options, existing):
    left_out = {"memcheck", "racecheck"} if options.without_sanitizer else set()
    asked = [check for check in existing if not options.checks or any(is_named(check, name) for name in options.checks)]
    return [check for check in existing if check.name == "machine" or (check in asked and check.name not in left_out)]


def facts(root, options):
    """What the results are results of."""
    origin = root / "ORIGIN"
    if origin.exists():
        source = origin.read_text().strip()
    else:
        head = subprocess.run(["git", "-C", root, "describe", "--always", "--dirty"], capture_output=True, text=True)
        source = f"commit {head.stdout.strip() or 'unknown'}"
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    return {"source": source, "date": now, "quick": options.quick, "command": sys.argv[1:],
            "system": platform.platform(), "python": f"{platform.python_version()} ({sys.executable})"}  # fmt: skip


def main(arguments=None, existing=None, root=ROOT):
    options = parse(arguments)
    existing = existing or ALL_CHECKS
    if options.list:
        print("\n".join(f"{check.name:<14} {check.limit_seconds:>4.0f} s at most   {check.what}" for check in existing))
        return 0
    programs = options.programs or (root / "bin" if (root / "run").exists() else root / "build-cuda" / "bin")
    options.output.mkdir(parents=True, exist_ok=True)
    session = Session(root, programs.absolute(), options.output.absolute(), options)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, session.end)
    header = facts(root, options)

    def show(results):
        last = results[-1]
        print(f"{last.name}: {last.result} ({last.seconds} s) {last.figure}", flush=True)
        write_summary(options.output / "summary.json", results, header)

    results = run_checks(chosen(options, existing), session, time.monotonic() + options.limit, show)
    line, status = verdict(results, len(existing))
    print(f"\n{table(results)}\n\n{line}; everything is in {options.output}")
    return status


if __name__ == "__main__":
    sys.exit(main())
