"""DEPTHWISE in NumPy, what it costs, and random instructions for it that stay inside the memories."""

import random

import numpy as np
from numpy.typing import NDArray

from systolith.config import Config
from systolith.isa import make
from systolith.sim.testbench.support.convolution_model import (
    ADDRESSES,
    Layer,
    anywhere,
    far_values,
    place_input,
    positions,
)

__all__ = ["depthwise", "passes", "random_layer"]


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
    """Input words, and taps, of each pass: what hw/depthwise/unit.py promises."""
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
        read = _lines(layer)
        if len(read) == 0 or read[-1] - read[0] < config.act_depth:
            act = place_input(rng, config, layer, read)
            weight = anywhere(rng, config.weight_depth - layer.taps)
            acc = rng.randrange(2) * config.dw_half + anywhere(rng, config.dw_half - layer.outputs)
            return layer.with_run(act=act, weight=weight, acc=acc)


def _lines(layer: Layer) -> NDArray[np.int64]:
    """All that it may read, each once, in order: of the lines that its windows meet every column from the first to the
    last one, inside the tensor."""
    tensor, kernel, run = layer.tensor, layer.kernel, layer.run
    oy, ky = np.arange(run["rows"])[:, None], np.arange(kernel["kernel_y"])
    y = np.unique(run["y0"] + oy * kernel["stride_y"] + ky * kernel["dilation_y"])
    y = y[(y >= 0) & (y < tensor["height"])]
    last = run["x0"] + (run["cols"] - 1) * kernel["stride_x"] + (kernel["kernel_x"] - 1) * kernel["dilation_x"]
    x = np.arange(max(run["x0"], 0), min(last + 1, tensor["width"]))
    return np.unique((run["act"] + y[:, None] * tensor["row_stride"] + x) % ADDRESSES)


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
        steps, y0, x0 = far_values(rng)
        kernel.update(steps, kernel_y=rng.choice([3, 255]))
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
