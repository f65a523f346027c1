# Compares loss curves of two devices, with a tolerance that is measured in the same run rather than assumed.
from dataclasses import dataclass


@dataclass
class Agreement:
    worst_step: int
    difference: float  # of the losses, at that step
    tolerance: float  # at that step
    last_loss: float

    @property
    def holds(self):
        return self.difference <= self.tolerance


# Relative, of the loss of one step, before the parameters have had time to drift apart. f32: sums of some hundred terms,
# each good to 2^-24, whose roundings add up like the root of their number, over some 30 operations: below 5e-6. bf16: an
# activation is good to 2^-9, a token's logits have passed some 30 roundings, sqrt(30) 2^-9 = 1.1 %, and the mean over the
# 400 or more tokens of a step is good to a twentieth of that, 5e-4; four times that for the worst of many steps.
ROUNDING = {"f32": 5e-6, "bf16": 2e-3}
# `perturbed` differs from the reference in the order of the sums over ranks alone; another device rounds each of some 30
# operations on a token's way in its own manner.
OPERATIONS = 30.0


def compare(losses, reference, perturbed, precision):
    """Whether `losses` follow `reference`. `perturbed` is the reference device's own run with its sums in another order:
    how far it has drifted by a step is how far rounding alone drives two runs apart by then. The drift counts as the
    largest so far, since curves that have parted also cross again."""
    if not len(losses) == len(reference) == len(perturbed) > 0:
        raise ValueError(f"curves of {len(losses)}, {len(reference)} and {len(perturbed)} steps")
    drift, worst = 0.0, None
    for step, (loss, expected, other) in enumerate(zip(losses, reference, perturbed), 1):
        drift = max(drift, abs(other - expected))
        found = Agreement(step, abs(loss - expected), ROUNDING[precision] * expected + OPERATIONS * drift, losses[-1])
        if not found.difference <= found.tolerance:  # NaN too
            return found
        if worst is None or found.difference / found.tolerance > worst.difference / worst.tolerance:
            worst = found
    return worst
