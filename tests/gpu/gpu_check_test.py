# gpu_check.sh with stand-ins for its programs: what passes, what does not, and that nothing passes that did not run.
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path
from unittest import mock

import curves
import gpu_check
import gpu_probe
from session import CheckFailed

GTEST = """#!/bin/sh
echo "[==========] {ran} tests from 3 test suites ran. (5 ms total)"
{more}
echo "[  PASSED  ] {passed} tests."
exit {status}
"""
# Writes one loss a step, `loss * 0.9^step`, where that many steps were asked for, and a model that holds SAYS.
DUOLOGUE = """#!/usr/bin/env python3
import json, pathlib, sys
echo = [a for a in sys.argv if a.startswith("--device.kind=")][0].split("=")[1]
if sys.argv[1] == "doctor":
    print("ok    cores            2 usable of 2\\nok    GPU              Stand-in\\nok    GPU bf16 matmul  7.0 TFLOP/s")
    sys.exit()
if sys.argv[1] == "chat":
    print("\\n".join("you> hello\\nbot> i am the " + {says}.get(echo, "same") for a in sys.argv if a == "--prompt"))
    sys.exit()
value = dict(a[2:].split("=", 1) for a in sys.argv if a.startswith("--") and "=" in a)
folder = pathlib.Path(value["output.path"])
(folder / "model").mkdir(parents=True, exist_ok=True)
(folder / "model" / "model.safetensors").write_text({says}.get(folder.name, "same"))
with open(folder / "metrics.jsonl", "w") as file:
    for step in range(int(value["train.steps"])):
        loss = 5 * 0.9**step * {factor}.get(echo, 1.0)
        file.write(json.dumps(dict(event="step", step=step + 1, train_loss=loss)) + "\\n")
"""
SANITIZER = """#!/bin/sh
while [ "$1" != "{program}" ]; do shift; done
"$@"
echo "{summary}"
"""
GPU = {"name": "Stand-in", "capability": 90, "multiprocessors": 1, "memory_bytes": 2**30, "driver_cuda": "13.0"}


class Checks(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        for part in ("build-cuda/bin", "configs", "launch", "tools", "output"):
            (self.root / part).mkdir(parents=True)
        (self.root / "launch" / "demo_prompts.txt").write_text("hello\nand you ?\n")
        self.write("tools/mpirun", '#!/bin/sh\nshift 2\n[ "$1" != --bind-to ] || shift 2\nexec "$@"\n')
        self.write("build-cuda/bin/duologue-preprocess", "#!/bin/sh\necho done\n")
        self.duologue()
        for name in ("cuda_contract_test", "cuda_golden_test", "nccl_test"):
            self.gtest(name)
        path = f"{self.root / 'tools'}:{os.environ['PATH']}"
        for patch in (mock.patch.dict(os.environ, PATH=path), mock.patch.object(gpu_probe, "gpus", lambda: [GPU])):
            patch.start()
            self.addCleanup(patch.stop)

    def write(self, name, text):
        (self.root / name).write_text(text)
        (self.root / name).chmod(0o755)

    def duologue(self, says=None, factor=None):
        self.write("build-cuda/bin/duologue", DUOLOGUE.format(says=says or {}, factor=factor or {}))

    def gtest(self, name, ran=12, passed=12, more=":", status=0):
        self.write(f"build-cuda/bin/{name}", GTEST.format(ran=ran, passed=passed, more=more, status=status))

    def sanitizer(self, summary):
        program = self.root / "build-cuda" / "bin" / "duologue"
        self.write("tools/compute-sanitizer", SANITIZER.format(program=program, summary=summary))

    def check(self, *arguments):
        """The results by name, the exit status and what was printed."""
        printed = io.StringIO()
        output = self.root / "output"
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            try:
                status = gpu_check.main([*arguments, "--output", str(output)], root=self.root)
            except SystemExit as end:
                return {}, end.code, printed.getvalue()
        summary = json.loads((output / "summary.json").read_text())
        return {found["name"]: found for found in summary["checks"]}, status, printed.getvalue()

    def fails(self, name, *words):
        results, status, printed = self.check(name)
        self.assertEqual(results[name]["result"], "FAILED", printed)
        self.assertEqual(status, 1)
        for word in words:
            self.assertIn(word, results[name]["figure"])

    def is_gone(self, process):
        """A process that was told to end, which a busy machine may take a moment for."""
        for _ in range(100):
            state = subprocess.run(["ps", "-o", "stat=", "-p", process], capture_output=True, text=True).stdout.strip()
            if state == "" or state.startswith("Z"):
                return True
            time.sleep(0.1)
        return False

    def test_without_a_gpu_everything_fails_at_once_and_nothing_is_started(self):
        for name in ("duologue", "cuda_contract_test"):
            self.write(f"build-cuda/bin/{name}", f"#!/bin/sh\ntouch {self.root}/started\n")
        begin = time.monotonic()
        with mock.patch.object(gpu_probe, "gpus", side_effect=CheckFailed("no GPU: the driver lists none")):
            results, status, printed = self.check()
        self.assertLess(time.monotonic() - begin, 30)  # also where many others run
        self.assertEqual(status, 1)
        self.assertEqual(len(results), len(gpu_check.ALL_CHECKS))
        self.assertEqual({found["result"] for found in results.values()}, {"FAILED", "NOT RUN"})
        self.assertIn(f"0 of {len(results)} checks passed", printed)
        self.assertFalse((self.root / "started").exists())

    def test_a_driver_that_is_not_there_is_no_gpu(self):
        mock.patch.stopall()
        with self.assertRaisesRegex(CheckFailed, "no GPU: the driver's libnone.so.1 is not on this machine"):
            gpu_probe.gpus("libnone.so.1")

    def test_what_passes_is_in_the_table_and_in_the_summary(self):
        asked = ("doctor", "contract_f32", "golden", "curve_f32", "curve_dropout", "curve_bf16", "resume", "graphs", "decode", "nccl_2")
        results, status, printed = self.check(*asked)
        self.assertEqual(status, 0, printed)
        self.assertEqual({found["result"] for found in results.values()}, {"passed"})
        self.assertEqual(list(results), ["machine", *asked])
        self.assertEqual(len(results["curve_f32"]["numbers"]["losses"]), 40)
        self.assertRegex(printed, r"golden +passed +\d+\.\d  12 tests")
        self.assertIn("9 of the 20 that exist were not asked for", printed)
        self.assertEqual(results["doctor"]["figure"], "GPU Stand-in; GPU bf16 matmul 7.0 TFLOP/s")

    def test_a_test_program_that_ran_nothing_has_not_passed(self):
        self.gtest("cuda_contract_test", ran=0, passed=0)
        self.fails("contract_f32", "0 of 0 tests passed")

    def test_a_skipped_test_has_not_passed(self):
        self.gtest("cuda_golden_test", more="echo '[  SKIPPED ] One.Test (0 ms)'")
        self.fails("golden")

    def test_a_failed_test_is_named(self):
        self.gtest("cuda_contract_test", passed=11, more="echo '[  FAILED  ] Norm.Backward/cuda_f32, where'", status=1)
        self.fails("contract_f32", "1 tests failed, the first is Norm.Backward/cuda_f32")

    def test_the_contract_is_dealt_out_and_passes_where_all_of_it_passes(self):
        with mock.patch("os.sched_getaffinity", return_value={0, 1, 2}):
            self.gtest("cuda_contract_test", more="echo part $GTEST_SHARD_INDEX of $GTEST_TOTAL_SHARDS")
            results, status, printed = self.check("contract_f32")
            self.assertEqual((results["contract_f32"]["figure"], status), ("36 tests", 0), printed)
            self.assertIn("part 2 of 3", (self.root / "output" / "contract_f32_2.log").read_text())
            self.gtest("cuda_contract_test", more='[ "$GTEST_SHARD_INDEX" != 1 ] || kill -SEGV $$')
            self.fails("contract_f32", "exit status -11", "contract_f32_1.log")

    def test_a_program_that_dies_without_a_word_has_not_passed(self):
        self.write("build-cuda/bin/nccl_test", "#!/bin/sh\nkill -SEGV $$\n")
        self.fails("nccl_1", "exit status -11", "printed nothing")

    def test_no_colour_stands_between_the_words_that_are_looked_for(self):
        self.gtest("nccl_test", more='[ "$GTEST_COLOR" = no ] || exit 3')
        self.assertEqual(self.check("nccl_1")[1], 0)

    def test_the_error_of_a_rank_is_told_and_not_what_mpirun_says_of_it(self):
        said = "echo 'error: NCCL is gone'\necho 'Exit code: 6'\nexit 6\n"
        self.write("build-cuda/bin/nccl_test", f"#!/bin/sh\n{said}")
        self.fails("nccl_2", "exit status 6: error: NCCL is gone")

    def test_a_program_that_is_missing_is_named(self):
        (self.root / "build-cuda" / "bin" / "nccl_test").unlink()
        self.fails("nccl_4", "there is no program", "nccl_test")

    def test_a_hanging_program_is_ended_with_all_that_it_started(self):
        self.write("build-cuda/bin/nccl_test", f"#!/bin/sh\necho connecting\nsleep 300 &\necho $! >{self.root}/child\nwait\n")
        short = [gpu_check.Check(c.name, c.what, 2.0 if c.name == "nccl_1" else 20.0, c.run, c.needs_gpu)
                 for c in gpu_check.ALL_CHECKS]  # fmt: skip
        with mock.patch.object(gpu_check, "ALL_CHECKS", short):
            self.fails("nccl_1", "out of time after 2 s", "the last it said: connecting")
        self.assertTrue(self.is_gone((self.root / "child").read_text().strip()))

    def test_a_run_that_is_told_to_end_takes_its_programs_along(self):
        self.write("build-cuda/bin/nccl_test", f"#!/bin/sh\necho $$ >{self.root}/child\nexec sleep 300\n")
        program = (
            "import gpu_check, gpu_probe, pathlib\n"
            f"gpu_probe.gpus = lambda: [{GPU!r}]\n"
            f"gpu_check.main(['nccl_1', '--output', '{self.root}/output'], root=pathlib.Path('{self.root}'))\n"
        )
        running = subprocess.Popen([sys.executable, "-c", program], cwd=Path(__file__).parent, stdout=subprocess.DEVNULL)
        while not (self.root / "child").exists() or not (self.root / "child").read_text().endswith("\n"):
            self.assertIsNone(running.poll())
            time.sleep(0.05)
        running.terminate()
        self.assertEqual(running.wait(30), 143)
        self.assertTrue(self.is_gone((self.root / "child").read_text().strip()))

    def test_when_no_time_is_left_the_rest_is_not_run(self):
        results, status, _ = self.check("golden", "--limit", "0")
        self.assertEqual((results["golden"]["result"], status), ("NOT RUN", 1))

    def test_losses_that_part_fail_and_are_kept(self):
        self.duologue(factor={"cuda": 1.0001})
        self.fails("curve_f32", "the losses part", "at step 1")
        results, _, _ = self.check("curve_f32")
        self.assertEqual(len(results["curve_f32"]["numbers"]["losses"]), 40)

    def test_a_loss_that_is_not_a_number_fails(self):
        self.assertFalse(curves.compare([1.0, float("nan")], [1.0, 1.0], [1.0, 1.0], "f32").holds)

    def test_bf16_is_given_more_room_than_f32(self):
        self.duologue(factor={"cuda": 1.0001})
        results, status, printed = self.check("curve_bf16")
        self.assertEqual(status, 0, printed)

    def test_drift_of_the_reference_widens_what_is_allowed_from_that_step_on(self):
        reference, drifted = [1.0, 1.0, 1.0], [1.0, 1.001, 1.0]
        self.assertTrue(curves.compare([1.0, 1.0, 1.01], reference, drifted, "f32").holds)
        self.assertEqual(curves.compare([1.01, 1.0, 1.0], reference, drifted, "f32").worst_step, 1)
        self.assertFalse(curves.compare([1.01, 1.0, 1.0], reference, drifted, "f32").holds)

    def test_parameters_that_differ_after_a_resume_fail(self):
        self.duologue(says={"resumed": "other"})
        self.fails("resume", "the parameters differ")

    def test_graphs_that_train_other_parameters_fail(self):
        self.duologue(says={"with_graphs": "other"})
        self.fails("graphs", "the parameters differ")

    def test_graphs_that_no_test_ran_have_not_passed(self):
        self.gtest("cuda_contract_test", ran=0, passed=0)
        self.fails("graphs", "0 of 0 tests passed")

    def test_replies_that_differ_fail(self):
        self.duologue(says={"cuda": "other"})
        self.fails("decode", "the CPU said", "the GPU")

    def test_a_missing_sanitizer_fails_unless_left_out(self):
        with mock.patch("checks.shutil.which", return_value=None):
            self.fails("memcheck", "compute-sanitizer is neither on PATH", "--without-sanitizer")
        results, status, _ = self.check("--without-sanitizer", "golden", "memcheck")
        self.assertEqual((list(results), status), (["machine", "golden"], 0))

    def test_the_sanitizer_passes_by_its_summary_alone(self):
        self.sanitizer("========= ERROR SUMMARY: 0 errors")
        self.assertEqual(self.check("memcheck")[1], 0)
        self.sanitizer("========= ERROR SUMMARY: 3 errors")
        self.fails("memcheck", "3 findings in f32")
        self.sanitizer("")
        self.fails("racecheck", "without its summary")

    def benchmark(self, more="", **found):
        """A stand-in that reports `found` and then does `more`."""
        (self.root / "tests" / "bench").mkdir(parents=True, exist_ok=True)
        (self.root / "tests" / "bench" / "gpu_bench.py").write_text(
            "import json, sys, time\n"
            f"json.dump({found!r}, open(sys.argv[sys.argv.index('--output') + 1], 'w'))\n{more}\n"
        )

    def test_a_benchmark_below_the_bar_fails_with_its_figures(self):
        self.benchmark(figure="1.1x PyTorch", below_the_bar=["1.3x asked"], not_measured=[])
        self.fails("bench_base", "1.1x PyTorch; below the bar: 1.3x asked")

    def test_a_benchmark_that_could_not_measure_all_has_not_passed(self):
        self.benchmark(figure="9 tokens/s", below_the_bar=[], not_measured=["our kernels: no CUPTI"])
        self.fails("bench_big", "9 tokens/s; not measured: our kernels: no CUPTI")

    def test_what_a_benchmark_had_measured_when_it_failed_is_kept(self):
        self.benchmark("sys.exit('the driver is gone')", figure="9 tokens/s", below_the_bar=[], not_measured=[])
        results, _, _ = self.check("bench_base")
        self.assertIn("9 tokens/s; exit status 1: the driver is gone", results["bench_base"]["figure"])
        self.assertEqual(results["bench_base"]["numbers"]["figure"], "9 tokens/s")

    def test_both_attentions_are_named_with_their_times(self):
        ours = {"median_step_ms": 20.25, "kernels": {"kinds_ms": {"attention": 3.5}}}
        self.benchmark(ours=ours, not_measured=[])
        results, _, _ = self.check("attention")
        text = "20.2 ms a step, 3.50 of it attention"
        self.assertEqual(results["attention"]["figure"], f"cudnn {text}; own {text}")
        self.benchmark(ours=ours, not_measured=["our kernels: no CUPTI"])
        self.fails("attention", "cudnn: our kernels: no CUPTI")

    def test_a_check_that_breaks_does_not_stop_the_others(self):
        with mock.patch("checks.tests_passed", side_effect=KeyError("what")):
            results, status, _ = self.check("golden", "resume")
        self.assertEqual((results["golden"]["result"], results["resume"]["result"], status), ("FAILED", "passed", 1))

    def test_a_kind_of_check_names_all_of_that_kind(self):
        results, status, printed = self.check("contract", "nccl")
        self.assertEqual(status, 0, printed)
        self.assertEqual(list(results), ["machine", "contract_f32", "contract_bf16", "nccl_1", "nccl_2", "nccl_4"])

    def test_an_unknown_check_is_refused(self):
        _, status, printed = self.check("golden_values")
        self.assertEqual(status, 2)
        self.assertIn("there is no check 'golden_values'", printed)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v"])
