# What the benchmarks' scripts compute: floors, kernels by kind, corpora of chosen lengths, verdicts.
import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path
from unittest import mock

import floor
import gpu_bench
import kernel_kinds

HERE = Path(__file__).resolve().parent
ADAM = "_ZN8duologue4cuda12adamw_kernelE"


class Floors(unittest.TestCase):
    def test_the_two_models_have_their_floors(self):
        for shape, milliseconds, parameters in ((floor.BASE, 16.05, 60.4e6), (floor.BIG, 48.8, 208.9e6)):
            self.assertAlmostEqual(1e3 * sum(floor.step_seconds(shape, 25000, 25000).values()), milliseconds, delta=0.03)
            self.assertAlmostEqual(shape.parameters / parameters, 1.0, delta=1e-3)

    def test_half_of_the_tokens_take_more_than_half_of_the_time(self):
        whole, half = (sum(floor.step_seconds(floor.BASE, n, n).values()) for n in (25000, 12500))
        self.assertGreater(half, whole / 2)  # the optimizer's part stays
        self.assertLess(half, 0.55 * whole)


class Kernels(unittest.TestCase):
    def test_kernels_of_both_programs_find_their_kind(self):
        for name, kind in (
            ("_ZN8duologue4cuda29residual_norm_backward_kernelIfEE", "norm"),
            ("_ZN8duologue4cuda20cross_entropy_kernelI13__nv_bfloat16EE", "loss"),
            (ADAM, "optimizer"),
            ("_ZN8duologue4cuda22query_gradients_kernelE", "attention"),
            ("nvjet_hsh_128x256_64x4_2x1_v_bz_TNT", "matmul"),
            ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64", "matmul"),
            ("cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16", "attention"),
            ("void pytorch_flash::flash_bwd_dq_dk_dv_loop_seqk_parallel_kernel", "attention"),
            ("fmha_cutlassF_bf16_aligned_64x64_rf_sm80(PyTorchMemEffAttention)", "attention"),
            ("void at::native::multi_tensor_apply_kernel<FusedAdamMathFunctor<float, 4>>", "optimizer"),
            ("triton_per_fused_add_native_layer_norm_12", "norm"),
            ("ncclDevKernel_AllReduce_Sum_f32_RING_LL", "communication"),
            ("_ZN8duologue4cuda22column_partials_kernelIfEE", "reduction"),
            ("memset", "fill"),
            ("something_new", "other"),
        ):
            self.assertEqual(kernel_kinds.kind_of(name), kind, name)

    def test_usual_steps_are_between_ends_of_optimizer_steps(self):
        # Steps of one second: a product of 0.5 s, 0.2 s of nothing, 0.3 s of the optimizer.
        kernels = []
        for step in range(5):
            kernels += [(step, step + 0.5, "gemm"), (step + 0.7, step + 1.0, ADAM)]
        found, span, steps = kernel_kinds.usual_steps(kernels, 3)
        self.assertEqual((len(found), steps), (6, 3))
        report = kernel_kinds.summary(found, span, steps)
        self.assertEqual((report["step_ms"], report["idle_ms"], report["launches"]), (1000.0, 200.0, 2.0))
        self.assertEqual(report["kinds_ms"], {"matmul": 500.0, "optimizer": 300.0})
        with self.assertRaisesRegex(ValueError, "5 optimizer steps"):
            kernel_kinds.usual_steps(kernels, 5)

    def test_a_step_in_which_something_was_made_anew_is_left_out(self):
        times = [1.0, 1.1, 9.0, 1.0, 1.2]
        ends = list(itertools.accumulate(times, initial=1.0))
        found, span, steps = kernel_kinds.usual_steps([(end - 0.5, end, ADAM) for end in ends], 5)
        self.assertEqual((len(found), steps), (4, 4))
        self.assertAlmostEqual(span, 4.3)

    def test_kernels_that_run_at_once_are_busy_once(self):
        self.assertAlmostEqual(kernel_kinds.busy_seconds([(0.0, 1.0, "a"), (0.5, 1.5, "b"), (2.0, 3.0, "c")]), 2.5)


class Corpora(unittest.TestCase):
    def test_sides_have_the_mean_that_was_asked_for_and_every_word_occurs(self):
        command = [sys.executable, HERE / "make_corpus.py", "--tokens", "40000", "--words", "5000"]
        lines = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout.splitlines()
        turns = [[turn.split() for turn in json.loads(line)["turns"]] for line in lines]
        self.assertEqual({len(pair) for pair in turns}, {2})
        for side in range(2):
            sizes = [len(pair[side]) + 1 for pair in turns]
            self.assertAlmostEqual(sum(sizes) / len(sizes), 40.0, delta=0.1)
            self.assertLessEqual(max(sizes), 256)
            self.assertGreater(max(sizes), 3 * min(sizes))
        self.assertEqual(len({word for pair in turns for turn in pair for word in turn}), 5000)

    def test_too_few_tokens_for_the_words_are_refused(self):
        command = [sys.executable, HERE / "make_corpus.py", "--tokens", "400"]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("raise --tokens", done.stderr)


class Verdicts(unittest.TestCase):
    OURS = {"source_tokens_per_step": 25000, "target_tokens_per_step": 25000, "device_bytes": 5}

    def compare(self, milliseconds, ratio, peer_bytes=9):
        ours = {**self.OURS, "median_step_ms": milliseconds, "tokens_per_second": 100.0 * ratio}
        peer = {"tokens_per_second": 100.0, "device_bytes": peer_bytes}
        return gpu_bench.compare(ours, peer, floor.BASE)

    def test_what_meets_every_bar_is_below_none(self):
        found = self.compare(25.0, 1.4)
        self.assertEqual(found["below_the_bar"], [])
        self.assertAlmostEqual(found["share_of_floor"], 16.05 / 25, delta=0.001)

    def test_each_bar_is_named_when_missed(self):
        self.assertIn("40 % of the floor's rate, 50 % asked", self.compare(40.0, 1.4)["below_the_bar"])
        self.assertIn("1.20x PyTorch, 1.3x asked", self.compare(25.0, 1.2)["below_the_bar"])
        self.assertIn("more memory than PyTorch", self.compare(25.0, 1.4, peer_bytes=4)["below_the_bar"])


class Measurements(unittest.TestCase):
    OURS = {**Verdicts.OURS, "median_step_ms": 25.0, "tokens_per_second": 150.0}

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.arguments = argparse.Namespace(
            model="base", device="cpu", precision="bf16", attention="auto", modes=["compiled"], seconds=1e6, steps=1, warmup=0,
            work=Path(folder.name), output=Path(folder.name) / "found.json",
        )  # fmt: skip
        self.bench = gpu_bench.Bench(self.arguments)

    def peer(self, *lines):
        shards = mock.patch.object(gpu_bench.Bench, "shards", return_value="shards")
        with shards, mock.patch.object(gpu_bench.Bench, "peer_lines", return_value=iter(lines)):
            return self.bench.peer()

    def test_the_peers_fastest_run_counts(self):
        runs = [{"mode": "compiled", "tokens_per_second": rate} for rate in (80.0, 100.0, 90.0)]
        found = self.peer({"torch": "2"}, *runs, {"kernels": {}}, {"unfinished": False})
        self.assertEqual((found["tokens_per_second"], found["torch"], found["runs"]), (100.0, "2", runs))

    def test_what_the_peer_measured_before_it_was_ended_counts(self):
        self.bench.end = time.monotonic() + 5
        program = "import time; print('{\"mode\": \"eager\"}', flush=True); time.sleep(300)"
        begin = time.monotonic()
        lines = list(self.bench.peer_lines([sys.executable, "-c", program]))
        self.assertLess(time.monotonic() - begin, 100)
        self.assertEqual(lines, [{"mode": "eager"}, {"unfinished": True}])

    def test_what_cannot_be_measured_is_named_beside_what_was(self):
        report = gpu_bench.Report(self.arguments)
        report.ours = dict(self.OURS)
        self.assertIsNone(report.measure("PyTorch", lambda: self.peer({"torch": "2"}, {"unfinished": True})))
        written = report.write()
        self.assertEqual(written["not_measured"], ["PyTorch: none of its runs came to an end"])
        self.assertEqual(json.loads(self.arguments.output.read_text())["ours"], self.OURS)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v"])
