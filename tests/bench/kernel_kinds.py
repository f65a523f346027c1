# From a list of kernels with their times: milliseconds a step by kind of kernel, and how long the GPU had nothing to do.
import re
import statistics
from collections import defaultdict

# The first that a name (mangled or not) matches, case aside. The trainer's own kernels are named after what they do;
# the peer's are PyTorch's, the libraries' and those that torch.compile generates (triton_...), named after what they fuse.
KINDS = [
    ("communication", r"nccl"),
    ("optimizer", r"adam|lpnorm|multi_tensor|foreach|clip_grad"),
    ("attention", r"attention|order_packing|move_rows|pad_stats|fmha|flash|sdpa|softmax_?rescale|query_gradients|key_gradients|cudnn.*(mha|bprop|fprop)"),
    ("matmul", r"gemm|nvjet|cutlass|xmma|cublas|splitk|matmul|epilogue_kernel"),
    ("loss", r"cross_entropy|nll_loss|softmax"),
    ("embedding", r"embedding|indexing_backward|number_rows|sum_runs|sum_borders|radix|sort|index_(select|put|add)"),
    ("norm", r"norm|sum_blocks"),
    ("dropout", r"dropout|bernoulli"),
    ("reduction", r"reduce|sum|partials|total_kernel|triton_(red|per)"),
    ("copy", r"memcpy|copy|cast"),
    ("fill", r"memset|fill|zero"),
    ("elementwise", r"elementwise|triton_poi|add_kernel|vectorized|where|cat"),
]
OPTIMIZER_STEP = re.compile(r"adamw?_kernel|fusedadam", re.IGNORECASE)


def kind_of(name):
    for kind, pattern in KINDS:
        if re.search(pattern, name, re.IGNORECASE):
            return kind
    return "other"


def read(path):
    """(begin, end, name) of each line, in seconds, by begin."""
    with open(path) as file:
        rows = [line.rstrip("\n").split("\t", 2) for line in file]
    return sorted((int(begin) * 1e-9, int(end) * 1e-9, name) for begin, end, name in rows)


def busy_seconds(intervals):
    """The length of the union of (begin, end, ...), sorted by begin."""
    total, covered = 0.0, float("-inf")
    for begin, end, *_ in intervals:
        total += max(0.0, end - max(begin, covered))
        covered = max(covered, end)
    return total


def usual_steps(intervals, steps):
    """Of the last `steps` steps, each from the end of one optimizer step to that of the next, those that took at most a
    quarter longer than the median: their kernels, their seconds and their number."""
    ends = [end for _, end, name in intervals if OPTIMIZER_STEP.search(name)]
    if len(ends) < steps + 1:
        raise ValueError(f"{len(ends)} optimizer steps among {len(intervals)} kernels; more than {steps} are needed")
    spans = list(zip(ends[-steps - 1 :], ends[-steps:]))
    longest = 1.25 * statistics.median(end - begin for begin, end in spans)
    kept = [(begin, end) for begin, end in spans if end - begin <= longest]
    kernels = [found for begin, end in kept for found in intervals if found[0] >= begin and found[1] <= end]
    return kernels, sum(end - begin for begin, end in kept), len(kept)


def summary(intervals, span_seconds, steps):
    """Milliseconds a step by kind, of idle, and of the whole; the slowest kernels by name."""
    kinds, names = defaultdict(float), defaultdict(lambda: [0.0, 0])
    for begin, end, name in intervals:
        kinds[kind_of(name)] += end - begin
        names[name][0] += end - begin
        names[name][1] += 1
    slowest = sorted(names.items(), key=lambda item: -item[1][0])[:40]
    scale = 1e3 / steps
    return {
        "kinds_ms": {kind: round(seconds * scale, 4) for kind, seconds in sorted(kinds.items(), key=lambda item: -item[1])},
        "idle_ms": round((span_seconds - busy_seconds(intervals)) * scale, 4),
        "step_ms": round(span_seconds * scale, 4),
        "launches": round(len(intervals) / steps, 1),
        "steps": steps,
        "slowest": [{"name": name[:160], "ms": round(total * scale, 4), "launches": round(count / steps, 2)}
                    for name, (total, count) in slowest],  # fmt: skip
    }
