#!/usr/bin/env python3
# Draws the loss curves of a trainer's run and of the peer's: plot_curves.py METRICS PEER_METRICS PICTURE
import json
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (after the choice of a back end that needs no display)


def smooth(values, share=0.9):
    mean, smoothed = values[0], []
    for value in values:
        mean = share * mean + (1 - share) * value
        smoothed.append(mean)
    return smoothed


def main():
    ours_path, peer_path, picture = sys.argv[1:]
    with open(ours_path) as file:
        ours = [json.loads(line) for line in file]
    with open(peer_path) as file:
        peer = [json.loads(line) for line in file]
    curves = [
        ("duologue", "tab:blue", [(e["step"], e["train_loss"]) for e in ours if e["event"] == "step"],
         [(e["step"], e["val_loss"]) for e in ours if e["event"] == "validation"]),
        ("PyTorch", "tab:orange", [(e["step"], e["loss"]) for e in peer],
         [(e["step"], e["validation_loss"]) for e in peer if "validation_loss" in e]),
    ]
    figure, axes = plt.subplots(figsize=(7, 4), dpi=100)
    for name, color, training, validation in curves:
        steps, losses = zip(*training)
        axes.plot(steps, smooth(losses), color=color, alpha=0.5, label=f"{name}, training (smoothed labels)")
        axes.plot(*zip(*validation), "o-", color=color, label=f"{name}, validation")
        print(f"{name}: validation loss {validation[-1][1]:.4f} after {validation[-1][0]} steps")
    ratio = curves[0][3][-1][1] / curves[1][3][-1][1]
    print(f"duologue / PyTorch: {ratio:.4f}")
    axes.set(xlabel="step", ylabel="nats per reply token")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(picture)


if __name__ == "__main__":
    main()
