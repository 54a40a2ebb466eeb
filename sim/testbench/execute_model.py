"""EXECUTE in NumPy, and random instructions for it that stay inside the memories."""

import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from systolith.config import Config
from systolith.isa import Instruction, make

__all__ = ["Layer", "execute", "positions", "random_layer"]

ADDRESSES = 1 << 18


@dataclass(frozen=True)
class Layer:
    """The two CONFIG and the EXECUTE of one accumulation."""

    tensor: Instruction
    kernel: Instruction
    run: Instruction

    @property
    def tiles(self) -> int:
        """K tiles."""
        return self.kernel["kernel_y"] * self.kernel["kernel_x"] * self.kernel["blocks"]

    @property
    def outputs(self) -> int:
        """M, rows of a tile."""
        return self.run["rows"] * self.run["cols"]

    def cycles(self, array: int) -> int:
        """What it costs in steady state."""
        return self.tiles * max(self.outputs, array)


def positions(layer: Layer):
    """For each K tile, of each output: whether its input is inside the tensor, and the address."""
    tensor, kernel, run = layer.tensor, layer.kernel, layer.run
    oy, ox = np.divmod(np.arange(layer.outputs), run["cols"])
    for ky in range(kernel["kernel_y"]):
        for kx in range(kernel["kernel_x"]):
            y = run["y0"] + oy * kernel["stride_y"] + ky * kernel["dilation_y"]
            x = run["x0"] + ox * kernel["stride_x"] + kx * kernel["dilation_x"]
            inside = (y >= 0) & (y < tensor["height"]) & (x >= 0) & (x < tensor["width"])
            for block in range(kernel["blocks"]):
                address = run["act"] + block * tensor["block_stride"] + y * tensor["row_stride"] + x
                yield inside, address % ADDRESSES


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
        inside = [address[mask] for mask, address in positions(layer)]
        addresses = np.unique(np.concatenate(inside))
        if len(addresses) == 0 or addresses[-1] - addresses[0] < config.act_depth:
            return _place(rng, config, layer, addresses)


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
        kernel.update({name: rng.choice([0, 1, 255]) for name in ("stride_y", "stride_x", "dilation_y", "dilation_x")})
        y0, x0 = (rng.choice([-8192, -1000, 0, 8191]) for _ in range(2))
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


def _place(rng: random.Random, config: Config, layer: Layer, addresses: NDArray[np.int64]) -> Layer:
    """The layer with its addresses moved into the memories."""
    act = rng.randrange(ADDRESSES)
    if len(addresses):
        span = int(addresses[-1] - addresses[0])
        act = (
            layer.run["act"]
            - int(addresses[0])
            + rng.choice([0, config.act_depth - 1 - span, rng.randint(0, config.act_depth - 1 - span)])
        )
    room = config.weight_depth - layer.tiles * config.array
    acc = rng.randrange(2) * config.acc_half + rng.choice(
        [0, config.acc_half - layer.outputs, rng.randint(0, config.acc_half - layer.outputs)]
    )
    values = {
        **layer.run.values,
        "act": act % ADDRESSES,
        "weight": rng.choice([0, room, rng.randint(0, room)]),
        "acc": acc,
    }
    return Layer(layer.tensor, layer.kernel, make("EXECUTE", **values))
