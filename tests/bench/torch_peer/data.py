# Examples for the peer: read from the shards, or from batches that the trainer's own loader dumped; then padded batches.
import json
import math
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch

START, END = 1, 2


@dataclass
class Example:
    source: np.ndarray
    target: np.ndarray  # <sos> and the reply
    labels: np.ndarray  # the reply and <eos>


@dataclass
class PaddedBatch:
    source: torch.Tensor
    source_mask: torch.Tensor
    target: torch.Tensor
    label_rows: torch.Tensor
    labels: torch.Tensor
    tokens: int  # real ones, source and target

    @property
    def padded_tokens(self):
        return self.source.numel() + self.target.numel()

    def arguments(self):
        return self.source, self.source_mask, self.target, self.label_rows, self.labels

    def to(self, device):
        return PaddedBatch(*(tensor.to(device) for tensor in self.arguments()), self.tokens)


def context(turns, limit):
    """The latest whole turns, each closed by <eos>, that fit; of a single longer turn its end."""
    kept, length = [], 0
    for turn in reversed(turns):
        if length + len(turn) + 1 > limit:
            break
        kept[:0] = [turn, [END]]
        length += len(turn) + 1
    if not kept:
        kept = [turns[-1][-(limit - 1) :], [END]]
    return np.concatenate(kept).astype(np.int64)


def manifest(folder):
    with open(Path(folder) / "manifest.json") as file:
        return json.load(file)


def read_shards(folder, split, settings, limit):
    """Up to `limit` examples of a split, in the order of the shards: every turn that has a turn before it."""
    examples = []
    for shard in manifest(folder)["shards"]:
        if shard["split"] != split:
            continue
        with h5py.File(Path(folder) / shard["file"], "r", locking=False) as file:
            tokens, turns, conversations = (
                file[key][:].astype(np.int64) for key in ("tokens", "turn_offsets", "conversation_offsets")
            )
        for first, last in zip(conversations[:-1], conversations[1:]):
            said = [tokens[turns[i] : turns[i + 1]] for i in range(first, last)]
            for i in range(1, len(said)):
                reply = said[i][: settings.data.max_reply_tokens - 1]
                target = np.concatenate([[START], reply])
                labels = np.concatenate([reply, [END]])
                examples.append(Example(context(said[:i], settings.data.max_context_tokens), target, labels))
                if len(examples) == limit:
                    return examples
    return examples


def read_dump(path):
    """What dump_batches wrote: a list of (step, examples); step -1 holds the validation batches."""
    words = np.fromfile(path, dtype="<i4")
    at, found = 0, []
    while at < len(words):
        step, sequences, source_rows, target_rows = words[at : at + 4]
        at += 4
        sizes = [sequences + 1, source_rows, sequences + 1, target_rows, target_rows]
        source_offsets, source, target_offsets, target, labels = np.split(
            words[at : at + sum(sizes)].astype(np.int64), np.cumsum(sizes)[:-1]
        )
        at += sum(sizes)
        examples = [
            Example(source[s:se], target[t:te], labels[t:te])
            for s, se, t, te in zip(source_offsets[:-1], source_offsets[1:], target_offsets[:-1], target_offsets[1:])
        ]
        found.append((int(step), examples))
    return found


def padded(examples, multiple=1):
    """One batch; both lengths are rounded up to a multiple of `multiple`."""
    longest_source = -(-max(len(example.source) for example in examples) // multiple) * multiple
    longest_target = -(-max(len(example.target) for example in examples) // multiple) * multiple
    source = np.zeros((len(examples), longest_source), np.int64)
    target = np.zeros((len(examples), longest_target), np.int64)
    labels = np.full((len(examples), longest_target), -1, np.int64)
    lengths = np.array([len(example.source) for example in examples])
    for i, example in enumerate(examples):
        source[i, : len(example.source)] = example.source
        target[i, : len(example.target)] = example.target
        labels[i, : len(example.labels)] = example.labels
    rows = np.flatnonzero(labels.ravel() >= 0)
    return PaddedBatch(
        source=torch.from_numpy(source),
        source_mask=torch.from_numpy(np.arange(longest_source)[None, None, None, :] < lengths[:, None, None, None]),
        target=torch.from_numpy(target),
        label_rows=torch.from_numpy(rows),
        labels=torch.from_numpy(labels.ravel()[rows]),
        tokens=int(lengths.sum()) + sum(len(example.target) for example in examples),
    )


def bucketed(examples, budget):
    """Batches of examples of similar length, each of at most `budget` padded source tokens."""
    ordered = sorted(examples, key=lambda example: (len(example.source), len(example.target)))
    batches, current = [], []
    for example in ordered:
        if current and (len(current) + 1) * len(example.source) > budget:
            batches.append(padded(current))
            current = []
        current.append(example)
    batches.append(padded(current))
    return batches


def bucketed_on_both_sides(examples, tokens):
    """Batches of up to `tokens` real tokens of both sides, of examples that are alike in both lengths: layers by source
    length, each sorted by target length. Lengths are multiples of 8, as kernels for 16-bit numbers like them."""
    batches = sum(len(example.source) + len(example.target) for example in examples) / tokens
    layer = math.ceil(len(examples) / max(1, round(math.sqrt(batches))))
    by_source = sorted(examples, key=lambda example: len(example.source))
    found = []
    for first in range(0, len(by_source), layer):
        current, size = [], 0
        for example in sorted(by_source[first : first + layer], key=lambda example: len(example.target)):
            length = len(example.source) + len(example.target)
            if size + length > tokens:
                found.append(padded(current, 8))
                current, size = [], 0
            current.append(example)
            size += length
    return found  # the last batch of a layer, which is not full, is left out
