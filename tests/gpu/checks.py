# The checks of launch/gpu_check.sh: is what the GPU computes right?
import filecmp
import json
import os
import re
import shutil
import sys
import time
from pathlib import Path

import curves
import gpu_probe
from session import CheckFailed, Outcome, events, last_words

TINY = ("--data.micro_batch_tokens=512", "--train.micro_batches_per_step=2", "--model.width=64", "--model.heads=2",
        "--model.hidden=128", "--model.encoder_layers=1", "--model.decoder_layers=1")  # fmt: skip


def machine(session):
    found = gpu_probe.gpus()
    session.made["gpu"] = found[0]
    first = found[0]
    figure = f"{len(found)} x {first['name']}, sm_{first['capability']}, {first['memory_bytes'] / 2**30:.0f} GiB"
    session.program("duologue")  # CheckFailed where nothing is built
    return Outcome(f"{figure}, driver for CUDA {first['driver_cuda']}", {"gpus": found})


def doctor(session):
    """The program finds the GPU and NVIDIA's libraries, and multiplies a matrix there."""
    text = session.run("doctor", session.program("duologue", "doctor", "--device.kind=cuda"))
    found = re.findall(r"^ok +(GPU.*)$", text, re.MULTILINE)
    if not found:
        raise CheckFailed(f"no line of its report names the GPU ({session.output}/doctor.log)")
    return Outcome("; ".join(re.sub(" +", " ", line) for line in found))


# --- tests that GoogleTest runs


def tests_passed(text):
    """How many tests passed. A run that skipped one, or does not say how it ended, has not passed."""
    ran = re.search(r"\[==========\] (\d+) tests? from .* ran", text)
    passed = re.search(r"\[  PASSED  \] (\d+) tests?\.", text)
    if not ran or not passed:
        raise CheckFailed(f"the tests' summary is missing; the last that was said: {last_words(text)}")
    if "[  SKIPPED ]" in text or int(passed[1]) != int(ran[1]):
        raise CheckFailed(f"{passed[1]} of {ran[1]} tests passed")
    return int(passed[1])


def gtest(session, name, command, processes=1):
    """Runs a test program, its tests dealt out to so many processes at once. One that ran nothing has not passed."""
    jobs = {name: (command, None)}
    if processes > 1:
        jobs = {f"{name}_{i}": (command, {"GTEST_TOTAL_SHARDS": str(processes), "GTEST_SHARD_INDEX": str(i)})
                for i in range(processes)}  # fmt: skip
    texts = session.run_together(jobs, expect=(0, 1))
    failed = [test for text in texts for test in re.findall(r"^\[  FAILED  \] (\S+?),? ", text, re.MULTILINE)]
    if failed:
        raise CheckFailed(f"{len(set(failed))} tests failed, the first is {failed[0]} ({session.output / name}*.log)")
    passed = sum(map(tests_passed, texts))
    if passed == 0:
        raise CheckFailed("0 of 0 tests passed")
    return Outcome(f"{passed} tests", {"tests": passed})


def contract(session, precision):
    """On several cores, for most of the time goes into the reference's sums and into compiling cuDNN's plans."""
    program = session.program("cuda_contract_test", f"--gtest_filter=*cuda*_{precision}*:AttentionMask.*")
    return gtest(session, f"contract_{precision}", program, processes=min(8, len(os.sched_getaffinity(0))))


def golden(session):
    return gtest(session, "golden", session.program("cuda_golden_test"))


def nccl(session, ranks):
    """The sums of NcclCommunicator. Ranks that share a GPU pretend to be on hosts of their own."""
    program = session.program("nccl_test")
    return gtest(session, f"nccl_{ranks}", session.under_mpi(ranks, program))


# --- training


def shards(session):
    """The demo corpus, preprocessed once for all checks."""
    if "shards" not in session.made:
        corpus, folder = session.output / "corpus.jsonl", session.output / "shards"
        preprocess = "duologue-preprocess"
        session.run("corpus", session.program(preprocess, "demo", "--output", corpus, "--conversations", 2000, "--seed", 1))
        shutil.rmtree(folder, ignore_errors=True)
        session.run("preprocess", session.program(preprocess, corpus, "--output", folder))
        session.made["shards"] = folder
    return session.made["shards"]


def training(session, output, device, steps, *options):
    """The command that trains the demo. Checkpoints of the run go to `output`."""
    return session.program(
        "duologue", "train", "--config", session.root / "configs" / "demo.json", f"--data.path={shards(session)}",
        f"--output.path={output}", f"--device.kind={device}", f"--train.steps={steps}", "--chat.at_end=never",
        "--train.schedule=paper", *options,  # whose rate at a step does not depend on how many there will be
    )  # fmt: skip


def train(session, name, device, steps, *options, ranks=1, keep=False):
    """Trains in a folder of its own; returns the loss of each step."""
    output = session.output / "runs" / name
    if not keep:
        shutil.rmtree(output, ignore_errors=True)
    command = training(session, output, device, steps, *options)
    session.run(name, session.under_mpi(ranks, command) if ranks > 1 else command)
    losses = [event["train_loss"] for event in events(output / "metrics.jsonl", "step")]
    if len(losses) != steps:
        raise CheckFailed(f"{name} trained {len(losses)} steps, not {steps}")
    return losses


def cpu_curves(session, steps, dropout):
    """The demo's losses on the CPU in f32, by one rank and by two: how far these differ is how far rounding drifts."""
    key = f"cpu_dropout_{dropout}"
    if key not in session.made:
        options = (f"--model.dropout={dropout}", "--train.precision=f32")
        session.made[key] = [
            train(session, f"{key}_{ranks}_ranks", "cpu", steps, *options, ranks=ranks) for ranks in (1, 2)
        ]
    return session.made[key]


def agreement(losses, reference, precision):
    found = curves.compare(losses, *reference, precision)
    numbers = {"losses": losses, "cpu": reference[0], "cpu_two_ranks": reference[1], **vars(found)}
    text = f"|difference| {found.difference:.1e} of {found.tolerance:.1e} allowed, at step {found.worst_step}"
    if not found.holds:
        raise CheckFailed(f"the losses part: {text}", numbers)
    return Outcome(f"{text}; loss {found.last_loss:.3f} after {len(losses)}", numbers)


def curve(session, precision, dropout):
    steps = 15 if session.quick else 40
    options = (f"--model.dropout={dropout}", f"--train.precision={precision}")
    losses = train(session, f"cuda_{precision}_dropout_{dropout}", "cuda", steps, *options)
    return agreement(losses, cpu_curves(session, steps, dropout), precision)


def ranks_on_one_gpu(session, ranks):
    """Several ranks that share the GPU train as one rank does on the CPU."""
    steps = 15 if session.quick else 40
    options = ("--model.dropout=0.1", "--train.precision=f32", "--train.micro_batches_per_step=4",
               "--data.micro_batch_tokens=2048")  # fmt: skip
    reference = [train(session, f"cpu_shared_{cpus}", "cpu", steps, *options, ranks=cpus) for cpus in (1, 2)]
    shared = ("--distributed.share_device=true",)
    losses = train(session, f"cuda_{ranks}_ranks", "cuda", steps, *options, *shared, ranks=ranks)
    return agreement(losses, reference, "f32")


def resume(session):
    """In deterministic mode, a run that was stopped and went on ends with the bits of a run that was not."""
    options = ("--train.precision=bf16", "--device.deterministic=true", "--checkpoint.interval_steps=0")
    train(session, "unbroken", "cuda", 12, *options)
    train(session, "resumed", "cuda", 6, *options)
    train(session, "resumed", "cuda", 12, *options, keep=True)
    return Outcome(f"{equal_models(session, 'unbroken', 'resumed')} bytes are equal after 12 steps")


def equal_models(session, *names):
    """How many bytes the models of two runs have. Every bit of them is equal."""
    models = [session.output / "runs" / name / "model" / "model.safetensors" for name in names]
    if not filecmp.cmp(*models, shallow=False):
        raise CheckFailed(f"the parameters differ: {models[0]} and {models[1]}")
    return models[0].stat().st_size


def graphs(session):
    """In deterministic mode, micro-batches as CUDA graphs and kernel by kernel give the same bits."""
    tests = gtest(session, "graphs", session.program("cuda_contract_test", "--gtest_filter=*CudaGraphs*"))
    options = ("--train.precision=bf16", "--model.dropout=0.1", "--device.deterministic=true")
    for name, switch in (("with_graphs", "true"), ("without_graphs", "false")):
        train(session, name, "cuda", 12, *options, f"--device.graphs={switch}")
    size = equal_models(session, "with_graphs", "without_graphs")
    return Outcome(f"{tests.figure}; {size} bytes are equal after 12 steps")


def decode(session):
    """The same greedy replies on GPU and CPU, from a model that has learnt to reply."""
    train(session, "to_talk", "cuda", 60 if session.quick else 350, "--train.precision=f32")
    model = session.output / "runs" / "to_talk" / "model"
    lines = (session.root / "launch" / "demo_prompts.txt").read_text().splitlines()
    prompts = [argument for line in lines for argument in ("--prompt", line)]
    said = []
    for device in ("cpu", "cuda"):
        chat = session.program("duologue", "chat", model, "--temperature", 0, f"--device.kind={device}", *prompts)
        text = session.run(f"chat_{device}", chat)
        said.append([line for line in text.splitlines() if line.startswith("bot>")])
    if len(said[0]) != len(lines) or said[0] != said[1]:
        raise CheckFailed(f"the CPU said {said[0]}, the GPU {said[1]}")
    return Outcome(f"{len(lines)} replies are equal; the last: {said[0][-1]}", {"replies": said[0]})


# --- compute-sanitizer

SANITIZERS = {
    # Every kernel, the libraries' too: they are handed our addresses.
    "memcheck": (("--leak-check", "no"), r"ERROR SUMMARY: (\d+) errors?"),
    # Our kernels only: the libraries' order their shared memory in ways that the tool does not know.
    "racecheck": (("--kernel-name", "kns=duologue"), r"RACECHECK SUMMARY: (\d+) hazards? displayed"),
}


def find_sanitizer():
    found = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    if not found:
        raise CheckFailed("compute-sanitizer is neither on PATH nor in /usr/local/cuda/bin (--without-sanitizer leaves it out)")
    return found


def sanitize(session, tool):
    """Two steps of a small model in both precisions, validation and all, under the tool."""
    options, summary = SANITIZERS[tool]
    sanitizer = [find_sanitizer(), "--target-processes", "all", "--tool", tool, "--error-exitcode", "9", *options]
    # The trainer starts itself again to set this for OpenMP, and the tool would lose sight of it.
    environment = {"GOMP_SPINCOUNT": "2000"}
    for precision in ("f32", "bf16"):
        output = session.output / "runs" / f"{tool}_{precision}"
        shutil.rmtree(output, ignore_errors=True)
        program = training(session, output, "cuda", 2, *TINY, f"--train.precision={precision}")
        launcher = len(session.launcher)
        command = [*program[:launcher], *sanitizer, *program[launcher:]]
        text = session.run(f"{tool}_{precision}", command, environment, expect=(0, 9))
        found = re.search(summary, text)
        if not found:
            raise CheckFailed(f"{tool} ended without its summary ({session.output}/{tool}_{precision}.log)")
        if int(found[1]) != 0:
            raise CheckFailed(f"{found[1]} findings in {precision} ({session.output}/{tool}_{precision}.log)")
        if len(events(output / "metrics.jsonl", "step")) != 2:
            raise CheckFailed(f"under {tool} the program did not train two steps")
    return Outcome("no findings in two steps, f32 and bf16")


# --- the project's benchmarks against PyTorch


def measure(session, name, model, *options):
    """What the benchmark of this name reports, and what went wrong: what it had measured by then is in its report."""
    script = session.root / "tests" / "bench" / "gpu_bench.py"
    report = session.output / f"{name}.json"
    report.unlink(missing_ok=True)
    steps = 10 if session.quick else 40
    command = [sys.executable, str(script), "--model", model, "--programs", str(session.programs), "--output", str(report)]
    command += ["--steps", str(steps), "--work", str(session.output / "bench"), *options]
    if session.in_bundle:
        command += ["--launcher", session.launcher[0]]
    wrong = []
    try:
        session.run(name, command)
    except CheckFailed as problem:
        wrong.append(str(problem))
    return json.loads(report.read_text()) if report.exists() else {}, wrong


def attention(session):
    """Steps of the base model with cuDNN's attention and with our own on tensor cores: `auto` has to be the faster one."""
    found, numbers = [], {}
    for choice in ("cudnn", "own"):
        numbers[choice], wrong = measure(session, f"attention_{choice}", "base", "--without-peer", "--attention", choice)
        if wrong or numbers[choice]["not_measured"]:
            raise CheckFailed(f"{choice}: {'; '.join([*wrong, *numbers[choice].get('not_measured', [])])}", numbers)
        ours = numbers[choice]["ours"]
        found.append(f"{choice} {ours['median_step_ms']:.1f} ms a step, {ours['kernels']['kinds_ms']['attention']:.2f} of it attention")
    return Outcome("; ".join(found), numbers)


def benchmark(session, model):
    seconds = session.deadline - time.monotonic() - 10  # for what follows the peer, which is ended then
    # Eager takes seconds: there is a peer where compiling fails.
    numbers, wrong = measure(session, f"bench_{model}", model, "--seconds", f"{seconds:.0f}", "--modes", "eager", "compiled")
    for title in ("below the bar", "not measured"):
        found = numbers.get(title.replace(" ", "_"))
        wrong += [f"{title}: {', '.join(found)}"] if found else []
    figure = numbers.get("figure", "no figures")
    if wrong:
        raise CheckFailed("; ".join([figure, *wrong]), numbers)
    return Outcome(figure, numbers)
