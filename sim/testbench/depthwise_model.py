"""DEPTHWISE in NumPy, what it costs, and random instructions for it that stay inside the memories."""

import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from systolith.config import Config
from systolith.isa import Instruction, make

__all__ = ["Layer", "depthwise", "passes", "random_layer"]

ADDRESSES = 1 << 18


@dataclass(frozen=True)
class Layer:
    """The two CONFIG and the instruction of one convolution."""

    tensor: Instruction
    kernel: Instruction
    run: Instruction

    @property
    def taps(self) -> int:
        return self.kernel["kernel_y"] * self.kernel["kernel_x"]

    @property
    def outputs(self) -> int:
        return self.run["rows"] * self.run["cols"]


def positions(layer: Layer):
    """For each tap, of each output: whether its input is inside the tensor, and the address."""
    tensor, kernel, run = layer.tensor, layer.kernel, layer.run
    oy, ox = np.divmod(np.arange(layer.outputs), run["cols"])
    for ky in range(kernel["kernel_y"]):
        for kx in range(kernel["kernel_x"]):
            y = run["y0"] + oy * kernel["stride_y"] + ky * kernel["dilation_y"]
            x = run["x0"] + ox * kernel["stride_x"] + kx * kernel["dilation_x"]
            inside = (y >= 0) & (y < tensor["height"]) & (x >= 0) & (x < tensor["width"])
            yield inside, (run["act"] + y * tensor["row_stride"] + x) % ADDRESSES


def depthwise(layer: Layer, activations: NDArray[np.int8], weights: NDArray[np.int8], accumulators: NDArray[np.int32]):
    """Run it: words of activation SRAM [depth, N], of weight SRAM [depth, N], accumulator rows [depth, N], changed."""
    run = layer.run
    total = np.zeros((layer.outputs, weights.shape[1]), np.int64)
    for k, (inside, address) in enumerate(positions(layer)):
        rows = np.full(total.shape, layer.tensor["zero_point"], np.int64)
        rows[inside] = activations[address[inside]]
        total += rows * weights[run["weight"] + k]
    accumulators[run["acc"] : run["acc"] + layer.outputs] = total


def passes(layer: Layer, config: Config) -> list[tuple[int, int]]:
    """Input words, and taps, of each pass: what hw/depthwise.py promises."""
    kernel, rows, cols = layer.kernel, layer.run["rows"], layer.run["cols"]
    across, along = {1: (1, 1), 3: (1, 3), 9: (3, 3)}[config.dw_taps]
    if kernel["dilation_x"] != 1 or kernel["stride_x"] not in (1, 2, 3):
        along = 1
    line = (cols - 1) * kernel["stride_x"] + 3 if along == 3 else cols
    if (
        kernel["dilation_y"] != 1
        or kernel["stride_y"] not in (1, 2, 3)
        or cols == 1
        or line > min(config.dw_depth, 256)
    ):
        across = 1

    def extents(taps: int, most: int, count: int, stride: int) -> list[tuple[int, int]]:
        sizes = [min(most, taps - start) for start in range(0, taps, most)]
        return [(count if size == 1 else (count - 1) * stride + size, size) for size in sizes]

    lines = extents(kernel["kernel_y"], across, rows, kernel["stride_y"])
    words = extents(kernel["kernel_x"], along, cols, kernel["stride_x"])
    return [(y * x, height * width) for y, height in lines for x, width in words]


def random_layer(rng: random.Random, config: Config, **fixed: int) -> Layer:
    """Any layer whose accesses are inside the memories; `fixed` sets `rows`, `cols`, fields of the kernel, or `far`:
    positions at the ends of what the fields can say."""
    while True:
        layer = _draw(rng, config, fixed)
        if layer.taps > config.weight_depth or layer.taps * layer.outputs > 20_000:
            continue
        addresses = np.unique(np.concatenate([address[mask] for mask, address in positions(layer)]))
        if len(addresses) == 0 or addresses[-1] - addresses[0] < config.act_depth:
            return _place(rng, config, layer, addresses)


def _draw(rng: random.Random, config: Config, fixed: dict[str, int]) -> Layer:
    far = fixed.get("far", rng.random() < 0.15)
    half = config.dw_half
    cols = fixed.get("cols", rng.choice([1, 2, 3, rng.randint(1, half), half]))
    rows = fixed.get("rows", rng.choice([1, 2, rng.randint(1, max(1, half // cols)), max(1, half // cols)]))
    rows = min(rows, half // cols)
    side = (1, 2, 3, 3, 3, 4, 5, 6, 7)
    kernel = {
        "kernel_y": rng.choice(side),
        "kernel_x": rng.choice(side),
        "stride_y": rng.choice([1, 1, 2, 3, 4, 0]),
        "stride_x": rng.choice([1, 1, 2, 3, 4, 0]),
        "dilation_y": rng.choice([1, 1, 1, 2, 0]),
        "dilation_x": rng.choice([1, 1, 1, 2, 0]),
    }
    y0, x0 = rng.randint(-4, 5), rng.randint(-4, 5)
    if far:
        kernel.update({name: rng.choice([0, 1, 255]) for name in ("stride_y", "stride_x", "dilation_y", "dilation_x")})
        kernel["kernel_y"] = rng.choice([3, 255])
        y0, x0 = (rng.choice([-8192, -1000, 0, 8191]) for _ in range(2))
    kernel.update({name: value for name, value in fixed.items() if name in kernel})
    width = rng.choice([rng.randint(1, 12), 16383 if far else 6, cols, min(16383, max(1, cols * kernel["stride_x"]))])
    height = rng.choice([rng.randint(0, 3), rng.randint(4, 16), min(16383, max(1, rows * kernel["stride_y"]))])
    row_stride = rng.choice([width, width + rng.randint(0, 5), rng.randrange(ADDRESSES) if far else width]) % ADDRESSES
    tensor = {
        "height": height,
        "width": width,
        "row_stride": row_stride,
        "zero_point": rng.choice([-128, 0, 127, rng.randint(-128, 127)]),
    }
    run = {"act": ADDRESSES // 2, "weight": 0, "y0": y0, "x0": x0, "rows": rows, "cols": cols, "acc": 0}
    return Layer(
        make("CONFIG.DEPTHWISE.input", **tensor), make("CONFIG.DEPTHWISE.kernel", **kernel), make("DEPTHWISE", **run)
    )


def _place(rng: random.Random, config: Config, layer: Layer, addresses: NDArray[np.int64]) -> Layer:
    """The layer with its addresses moved into the memories."""
    act = rng.randrange(ADDRESSES)
    if len(addresses):
        room = config.act_depth - 1 - int(addresses[-1] - addresses[0])
        act = layer.run["act"] - int(addresses[0]) + rng.choice([0, room, rng.randint(0, room)])
    room = config.weight_depth - layer.taps
    free = config.dw_half - layer.outputs
    values = {
        **layer.run.values,
        "act": act % ADDRESSES,
        "weight": rng.choice([0, room, rng.randint(0, room)]),
        "acc": rng.randrange(2) * config.dw_half + rng.choice([0, free, rng.randint(0, free)]),
    }
    return Layer(layer.tensor, layer.kernel, make("DEPTHWISE", **values))
