"""EXECUTE in NumPy, and random instructions for it that stay inside the memories."""

import random

import numpy as np
from numpy.typing import NDArray

from systolith.config import Config
from systolith.isa import make
from systolith.sim.testbench.support.convolution_model import (
    ADDRESSES,
    Layer,
    addresses,
    anywhere,
    far_values,
    place_input,
    positions,
)

__all__ = ["cycles", "execute", "random_layer"]


def cycles(layer: Layer, array: int) -> int:
    """What it costs in steady state."""
    return layer.tiles * max(layer.outputs, array)


def execute(layer: Layer, activations: NDArray[np.int8], weights: NDArray[np.int8], accumulators: NDArray[np.int32]):
    """Run it: words of activation SRAM [depth, N], of weight SRAM [depth, N], accumulator rows [depth, N], changed."""
    run, size = layer.run, weights.shape[1]
    target = accumulators[run["acc"] : run["acc"] + layer.outputs]
    total = target.astype(np.int64) * run["accumulate"]
    for k, (inside, address) in enumerate(positions(layer)):
        rows = np.full((layer.outputs, size), layer.tensor["zero_point"], np.int64)
        rows[inside] = activations[address[inside]]
        start = run["weight"] + k * size
        total += rows @ weights[start : start + size].astype(np.int64)
    target[:] = total


def random_layer(rng: random.Random, config: Config, **fixed: int) -> Layer:
    """Any layer whose accesses are inside the memories; `fixed` sets `rows`, `cols`, `accumulate`, fields of the
    kernel, or `far`: positions at the ends of what the fields can say."""
    while True:
        layer = _draw(rng, config, fixed)
        if layer.tiles * config.array > config.weight_depth:
            continue
        read = addresses(layer)
        if len(read) == 0 or read[-1] - read[0] < config.act_depth:
            act = place_input(rng, config, layer, read)
            acc = rng.randrange(2) * config.acc_half + anywhere(rng, config.acc_half - layer.outputs)
            weight = anywhere(rng, config.weight_depth - layer.tiles * config.array)
            return layer.with_run(act=act, acc=acc, weight=weight)


def _draw(rng: random.Random, config: Config, fixed: dict[str, int]) -> Layer:
    far = fixed.get("far", rng.random() < 0.2)
    cols = fixed.get(
        "cols", rng.choice([1, 2, 3, config.array, rng.randint(1, min(config.acc_half, 3 * config.array))])
    )
    rows = fixed.get(
        "rows", rng.choice([1, rng.randint(1, max(1, min(6, min(config.acc_half, 4 * config.array) // cols)))])
    )
    blocks = rng.choice([1, 1, 2, 3])
    kernel = {
        "kernel_y": rng.choice([1, 2, 3]),
        "kernel_x": rng.choice([1, 2, 3]),
        "blocks": blocks,
        "stride_y": rng.choice([1, 1, 2, 3]),
        "stride_x": rng.choice([1, 1, 2, 3]),
        "dilation_y": rng.choice([1, 1, 2]),
        "dilation_x": rng.choice([1, 1, 2]),
    }
    y0, x0 = rng.randint(-3, 5), rng.randint(-3, 5)
    if far:
        steps, y0, x0 = far_values(rng)
        kernel.update(steps)
    kernel.update({name: value for name, value in fixed.items() if name in kernel})
    width = rng.choice([rng.randint(1, 12), 16383 if far else 6])
    row_stride = rng.choice([width, width + rng.randint(0, 5), rng.randrange(ADDRESSES) if far else width]) % ADDRESSES
    height = rng.randint(0, 12)
    tensor = {
        "height": height,
        "width": width,
        "row_stride": row_stride,
        "block_stride": rng.choice([height * row_stride % ADDRESSES, rng.randint(0, 40)]),
        "zero_point": rng.choice([-128, 0, 127, rng.randint(-128, 127)]),
    }
    run = {
        "act": ADDRESSES // 2,
        "weight": 0,
        "y0": y0,
        "x0": x0,
        "rows": rows,
        "cols": cols,
        "acc": 0,
        "accumulate": fixed.get("accumulate", rng.randint(0, 1)),
    }
    return Layer(
        make("CONFIG.EXECUTE.input", **tensor), make("CONFIG.EXECUTE.kernel", **kernel), make("EXECUTE", **run)
    )
