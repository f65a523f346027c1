#!/usr/bin/env python3
# The least time that one training step of the encoder-decoder Transformer can take on one H200, kernel by kernel.
#
# A kernel takes the larger of two times: its floating-point operations over RATE, its bytes over BANDWIDTH, where each
# input is read once and each output written once. The step is their sum, because kernels follow one another. Activations
# and weights have 2 bytes, sums of the optimizer 4. What happens inside a kernel (an activation, a bias, a mask) is free.
import argparse
from dataclasses import dataclass

BANDWIDTH = 4.3e12  # bytes a second: a device-to-device copy on an H200, bytes read and written
RATE = 790e12  # operations a second: bf16 product of matrices of 8192 x 8192 on an H200


@dataclass(frozen=True)
class Shape:
    width: int
    hidden: int
    layers: int  # of the encoder, and as many of the decoder
    vocabulary: int = 32000

    @property
    def parameters(self):
        """Weight matrices; biases and norms are too few to count."""
        encoder = 4 * self.width**2 + 2 * self.width * self.hidden
        decoder = 8 * self.width**2 + 2 * self.width * self.hidden
        return self.layers * (encoder + decoder) + self.vocabulary * self.width


BASE = Shape(width=512, hidden=2048, layers=6)
BIG = Shape(width=1024, hidden=4096, layers=6)


class Step:
    """Adds up the kernels of a step by kind, in seconds."""

    def __init__(self):
        self.seconds = {}

    def kernel(self, kind, operations, moved, times=1):
        seconds = times * max(operations / RATE, moved / BANDWIDTH)
        self.seconds[kind] = self.seconds.get(kind, 0.0) + seconds

    def linear(self, rows, inner, outer, times=1, mask_out=0.0, mask_in=0.0):
        """Y = X W, dX = dY W', dW = X' dY. `mask_out`: bytes an output element that the forward product also writes;
        `mask_in`: bytes an element of dX that its product also reads (ReLU's bits)."""
        operations = 2 * rows * inner * outer
        x, w, y = rows * inner, inner * outer, rows * outer
        self.kernel("matmul", operations, 2 * (x + w + y) + mask_out * y, times)
        self.kernel("matmul", operations, 2 * (x + w + y) + mask_in * x, times)
        self.kernel("matmul", operations, 2 * (x + w + y), times)

    def attention(self, operations, queries, keys, times):
        """Of activations of `queries` and `keys` bytes. Forward reads q, k, v and writes y. Backward reads those and dy,
        writes dq, dk, dv, and passes through f32 sums of dq once; it computes 5 products where forward has 2."""
        self.kernel("attention", operations, 2 * queries + 2 * keys, times)
        self.kernel("attention", 2.5 * operations, 8 * queries + 4 * keys, times)

    def norm(self, activations, times):
        """Residual, dropout and layer norm in one pass: two in, two out; backward three in, two out."""
        self.kernel("norm", 0, 4 * activations, times)
        self.kernel("norm", 0, 5 * activations, times)


def step_seconds(shape, source, target, length=40.0):
    """Seconds by kind of kernel. `length`: sum of squared lengths over sum of lengths, what an average token attends to."""
    step, width, layers = Step(), shape.width, shape.layers
    bytes_source, bytes_target = 2 * source * width, 2 * target * width
    for rows in (source, target):
        step.linear(rows, width, 3 * width, layers)  # queries, keys and values
        step.linear(rows, width, width, layers)
        step.linear(rows, width, shape.hidden, layers, mask_out=1 / 8)
        step.linear(rows, shape.hidden, width, layers, mask_in=1 / 8)
    step.linear(target, width, width, 2 * layers)  # cross-attention's queries and output
    step.linear(source, width, 2 * width, layers)  # its keys and values
    step.attention(4 * length * width * source, bytes_source, bytes_source, layers)
    step.attention(2 * length * width * target, bytes_target, bytes_target, layers)  # causal: half of the products
    step.attention(4 * length * width * target, bytes_target, bytes_source, layers)
    step.norm(bytes_source, 2 * layers)
    step.norm(bytes_target, 3 * layers)
    step.linear(target, width, shape.vocabulary)
    step.kernel("loss", 0, 2 * target * shape.vocabulary * 2)  # logits in, their gradient out
    step.kernel("embedding", 0, 3 * (bytes_source + bytes_target))
    # Value and both moments in and out in f32, gradient in, bf16 weight out; then the gradient once more for its norm.
    step.kernel("optimizer", 0, shape.parameters * 30)
    step.kernel("optimizer", 0, shape.parameters * 4)
    return step.seconds


def main():
    parser = argparse.ArgumentParser(description="Floor of a training step on one H200")
    parser.add_argument("--source", type=float, default=25000, help="tokens a step")
    parser.add_argument("--target", type=float, default=25000)
    parser.add_argument("--length", type=float, default=40, help="sum of squared lengths over sum of lengths")
    arguments = parser.parse_args()
    for name, shape in (("base", BASE), ("big", BIG)):
        parts = step_seconds(shape, arguments.source, arguments.target, arguments.length)
        total = sum(parts.values())
        rate = (arguments.source + arguments.target) / total
        print(f"Transformer {name}: {1e3 * total:.2f} ms a step, {rate:,.0f} source and target tokens a second")
        for kind, seconds in sorted(parts.items(), key=lambda part: -part[1]):
            print(f"  {kind:<10} {1e3 * seconds:7.2f} ms")


if __name__ == "__main__":
    main()
