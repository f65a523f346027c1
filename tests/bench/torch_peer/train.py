# The peer's two jobs: `speed` times training steps, `curve` trains on the trainer's own batches and logs the losses.
import argparse
import contextlib
import json
import random
import time
from pathlib import Path

import torch

from data import bucketed, manifest, read_dump, read_shards
from model import Seq2Seq
from settings import learning_rate, load_settings


class Trainer:
    def __init__(self, settings, vocabulary, precision="f32", compiled=False, device="cpu"):
        torch.manual_seed(settings.train.seed)
        self.settings, self.precision, self.device, self.step = settings, precision, device, 0
        longest = max(settings.data.max_context_tokens, settings.data.max_reply_tokens)
        self.model = Seq2Seq(settings.model, vocabulary, longest).to(device)
        if precision == "bf16_weights":  # values, gradients and moments too: the fastest, not what one would train with
            self.model.to(torch.bfloat16)
        self.forward = torch.compile(self.model, dynamic=True) if compiled else self.model
        train = settings.train
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=0.0, betas=(train.beta1, train.beta2), eps=train.epsilon, weight_decay=0.0,
            fused=True,
        )  # fmt: skip

    def autocast(self):
        return torch.autocast(self.device, torch.bfloat16) if self.precision == "bf16" else contextlib.nullcontext()

    def accumulate(self, batch, labels):
        """Adds a batch's share of the gradient of the mean loss over `labels` labels; returns its sum of losses, on the device."""
        self.model.train()
        with self.autocast():
            loss = self.forward(*batch.arguments(), self.settings.train.label_smoothing)
        (loss / labels).backward()
        return loss.detach()

    def update(self):
        self.step += 1
        if self.settings.train.clip_norm > 0:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.train.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.settings, self.step)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def train_step(self, batches):
        """One optimizer step over all `batches`; returns the mean smoothed loss per label."""
        labels = sum(len(batch.labels) for batch in batches)
        total = sum(self.accumulate(batch, labels) for batch in batches)
        self.update()
        return total.item() / labels

    @torch.no_grad()
    def validate(self, batches):
        """Mean negative log-likelihood per label, without smoothing and dropout."""
        self.model.eval()
        total = labels = 0
        for batch in batches:
            with self.autocast():
                total += self.forward(*batch.arguments(), 0.0).item()
            labels += len(batch.labels)
        return total / labels


def tokens_per_second(trainer, steps, max_seconds):
    """Real tokens a second over `steps`, or over the batches begun in `max_seconds`."""
    tokens, start = 0, time.perf_counter()
    for batches in steps:
        labels = sum(len(batch.labels) for batch in batches)
        for batch in batches:
            trainer.accumulate(batch, labels)
            tokens += batch.tokens
            if time.perf_counter() - start > max_seconds:
                return tokens / (time.perf_counter() - start)
        trainer.update()
    return tokens / (time.perf_counter() - start)


def speed(arguments, settings):
    pool = read_shards(arguments.data, "train", settings, arguments.examples)
    vocabulary = manifest(arguments.data)["vocabulary_size"]
    per_step = settings.train.micro_batches_per_step * settings.data.micro_batch_tokens
    best = {}
    for budget in arguments.budgets:
        batches = bucketed(pool, budget)
        random.Random(settings.train.seed).shuffle(batches)
        group = max(1, per_step // budget)
        steps = [batches[i : i + group] for i in range(0, len(batches), group)][: arguments.warmup + arguments.steps]
        if len(steps) < arguments.warmup + arguments.steps:
            raise SystemExit(f"only {len(steps)} steps in {len(pool)} examples; raise --examples")
        for precision in arguments.precisions:
            for mode in arguments.modes:
                trainer = Trainer(settings, vocabulary, precision, mode == "compiled")
                tokens_per_second(trainer, steps[: arguments.warmup], arguments.max_seconds)
                rate = tokens_per_second(trainer, steps[arguments.warmup :], arguments.max_seconds)
                result = {
                    "precision": precision,
                    "mode": mode,
                    "batch_tokens": budget,
                    "batches_per_step": group,
                    "tokens_per_second": round(rate, 1),
                }
                print(json.dumps(result), flush=True)
                if result["tokens_per_second"] > best.get("tokens_per_second", 0):
                    best = result
    print(json.dumps({"best": best, "torch": torch.__version__, "threads": torch.get_num_threads()}))


def curve(arguments, settings):
    records = read_dump(arguments.batches)
    budget = settings.data.micro_batch_tokens
    validation = bucketed([example for step, examples in records if step < 0 for example in examples], 2 * budget)
    steps = {}
    for step, examples in records:
        if step >= 0:
            steps.setdefault(step, []).extend(examples)
    trainer = Trainer(settings, manifest(arguments.data)["vocabulary_size"], arguments.precisions[0])
    with open(arguments.output, "w") as log:
        for step in sorted(steps):
            loss = trainer.train_step(bucketed(steps[step], budget))
            record = {"step": step + 1, "loss": loss}
            if (step + 1) % arguments.validate_every == 0 or step == max(steps):
                record["validation_loss"] = trainer.validate(validation)
            log.write(json.dumps(record) + "\n")
            log.flush()
            if "validation_loss" in record or (step + 1) % 10 == 0:
                print(json.dumps(record), flush=True)


def main():
    parser = argparse.ArgumentParser(
        description="PyTorch peer of the trainer", epilog="--section.key=value overrides the configuration"
    )
    parser.add_argument("job", choices=["speed", "curve"])
    parser.add_argument("--config", required=True, type=Path, help="the trainer's configuration")
    parser.add_argument("--data", required=True, type=Path, help="folder of shards")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precisions", nargs="+", default=["f32", "bf16", "bf16_weights"], choices=["f32", "bf16", "bf16_weights"])
    parser.add_argument("--modes", nargs="+", default=["eager", "compiled"], choices=["eager", "compiled"])
    parser.add_argument("--budgets", nargs="+", type=int, default=[4096, 16384], help="speed: padded tokens per batch")
    parser.add_argument("--examples", type=int, default=20000, help="speed: the pool that is sorted by length")
    parser.add_argument("--steps", type=int, default=10, help="speed: timed steps")
    parser.add_argument("--warmup", type=int, default=3, help="speed: steps before them")
    parser.add_argument("--max-seconds", type=float, default=60.0, help="speed: per measurement, and for its warm-up")
    parser.add_argument("--batches", type=Path, help="curve: file written by dump_batches")
    parser.add_argument("--output", type=Path, default="peer_metrics.jsonl", help="curve: one line per step")
    parser.add_argument("--validate-every", type=int, default=100, help="curve: steps")
    arguments, overrides = parser.parse_known_args()
    torch.set_num_threads(arguments.threads)
    settings = load_settings(arguments.config, overrides)
    {"speed": speed, "curve": curve}[arguments.job](arguments, settings)


if __name__ == "__main__":
    main()
