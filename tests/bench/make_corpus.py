#!/usr/bin/env python3
# Writes conversations of one question and one reply with random words, for benchmarks: as JSON lines on standard output.
#
# Lengths are log-normal with sigma 0.6, as turns of written conversations roughly are, cut at `--longest` and scaled so
# that the tokens of a side, the end or start token included, have the mean asked for. Words are drawn by Zipf's law; each
# of the vocabulary occurs at least once.
import argparse
import itertools
import json
import math
import random
import sys

SIGMA = 0.6


def words(count):
    """`count` different words of letters."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    return ["".join(word) for word in itertools.islice(itertools.product(letters, repeat=4), count)]


def lengths(draw, count, mean, longest):
    """Words a side, one token less than a side has. Scaled until the mean of what was cut and rounded is right."""
    normal = [draw.gauss(0.0, SIGMA) for _ in range(count)]
    scale = mean * math.exp(-SIGMA**2 / 2)
    for _ in range(8):
        found = [min(max(round(scale * math.exp(x)), 2), longest) for x in normal]
        scale *= mean * count / sum(found)
    return [length - 1 for length in found]


def main():
    parser = argparse.ArgumentParser(description="Conversations of random words with chosen lengths")
    parser.add_argument("--tokens", type=int, required=True, help="source tokens in all; as many target tokens")
    parser.add_argument("--mean", type=float, default=40.0, help="tokens of a side")
    parser.add_argument("--longest", type=int, default=256, help="tokens of a side at most")
    parser.add_argument("--words", type=int, default=31996, help="different words, 4 less than the vocabulary's size")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()

    draw = random.Random(arguments.seed)
    conversations = math.ceil(arguments.tokens / arguments.mean)
    sides = [lengths(draw, conversations, arguments.mean, arguments.longest) for _ in range(2)]
    needed = sum(map(sum, sides))
    vocabulary = words(arguments.words)
    if needed < len(vocabulary):
        sys.exit(f"make_corpus.py: {needed} words cannot hold each of {len(vocabulary)}; raise --tokens")
    drawn = draw.choices(vocabulary, weights=[1 / (rank + 2.7) for rank in range(len(vocabulary))], k=needed)
    for place, word in zip(draw.sample(range(needed), len(vocabulary)), vocabulary):
        drawn[place] = word
    at = iter(drawn)
    for pair in zip(*sides):
        print(json.dumps({"turns": [" ".join(itertools.islice(at, length)) for length in pair]}))


if __name__ == "__main__":
    main()
