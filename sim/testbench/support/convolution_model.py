"""What EXECUTE and DEPTHWISE have in common in their testbenches: a convolution's instructions, and what it reads."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from systolith.config import Config
from systolith.isa import ADDRESS_BITS, Instruction

__all__ = ["ADDRESSES", "Layer", "addresses", "anywhere", "far_values", "place_input", "positions"]

ADDRESSES = 1 << ADDRESS_BITS


@dataclass(frozen=True)
class Layer:
    """The two CONFIG and the instruction of one convolution."""

    tensor: Instruction
    kernel: Instruction
    run: Instruction

    @property
    def taps(self) -> int:
        """Positions of the kernel."""
        return self.kernel["kernel_y"] * self.kernel["kernel_x"]

    @property
    def tiles(self) -> int:
        """K tiles; as many as taps where there are no channel blocks."""
        return self.taps * self.kernel.values.get("blocks", 1)

    @property
    def outputs(self) -> int:
        """M, rows of a tile."""
        return self.run["rows"] * self.run["cols"]

    def with_run(self, **values: int) -> "Layer":
        """The layer with other values of its instruction."""
        return replace(self, run=replace(self.run, values={**self.run.values, **values}))


def positions(layer: Layer) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.int64]]]:
    """For each K tile, of each output: whether its input is inside the tensor, and the address."""
    tensor, kernel, run = layer.tensor, layer.kernel, layer.run
    oy, ox = np.divmod(np.arange(layer.outputs), run["cols"])
    for ky in range(kernel["kernel_y"]):
        for kx in range(kernel["kernel_x"]):
            y = run["y0"] + oy * kernel["stride_y"] + ky * kernel["dilation_y"]
            x = run["x0"] + ox * kernel["stride_x"] + kx * kernel["dilation_x"]
            inside = (y >= 0) & (y < tensor["height"]) & (x >= 0) & (x < tensor["width"])
            for block in range(kernel.values.get("blocks", 1)):
                first = run["act"] + block * tensor.values.get("block_stride", 0)
                yield inside, (first + y * tensor["row_stride"] + x) % ADDRESSES


def addresses(layer: Layer) -> NDArray[np.int64]:
    """All that it reads, each once, in order."""
    return np.unique(np.concatenate([address[inside] for inside, address in positions(layer)]))


def far_values(rng: random.Random) -> tuple[dict[str, int], int, int]:
    """Strides and dilations, y0 and x0, at the ends of what the fields can say."""
    steps = {name: rng.choice([0, 1, 255]) for name in ("stride_y", "stride_x", "dilation_y", "dilation_x")}
    y0, x0 = (rng.choice([-8192, -1000, 0, 8191]) for _ in range(2))
    return steps, y0, x0


def anywhere(rng: random.Random, room: int) -> int:
    """From 0 to `room`, often one of its ends."""
    return rng.choice([0, room, rng.randint(0, room)])


def place_input(rng: random.Random, config: Config, layer: Layer, read: NDArray[np.int64]) -> int:
    """An address `act` with which the words `read` (see `addresses`) lie in activation SRAM."""
    act = rng.randrange(ADDRESSES)
    if len(read):
        act = layer.run["act"] - int(read[0]) + anywhere(rng, config.act_depth - 1 - int(read[-1] - read[0]))
    return act % ADDRESSES
