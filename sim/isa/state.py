"""What an accelerator holds: its SRAMs, filled with garbage at the start, and the memory it sees."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from systolith.config import Config
from systolith.isa import OFFSET_BITS, Region, SfuSource
from systolith.sim.host.memory_image import Image

__all__ = ["Refused", "State", "require"]

OFFSET_MASK = (1 << OFFSET_BITS) - 1


class Refused(Exception):
    """An access or operand the hardware stops at; `code` is a name in `isa.Error`, `place` how far an EXECUTE got: K
    tile and row."""

    def __init__(self, code: str, place: tuple[int, int] = (-1, 0)):
        super().__init__(code)
        self.code, self.place = code, place


def require(holds: bool, code: str) -> None:
    """Raises Refused unless it holds."""
    if not holds:
        raise Refused(code)


@dataclass(eq=False)
class State:
    """SRAMs and memory. What windows slide over (`act`, `acc`, `dw_acc`) has a word more than the hardware: padding.

    `table` is the SFU's; `recent` marks words of `act` that the SFU may still have in its pipeline (see sfu.py).
    """

    config: Config
    memory: Image
    act: NDArray[np.int8]
    weights: NDArray[np.int8]
    params: NDArray[np.uint8]
    acc: NDArray[np.int32]
    dw_acc: NDArray[np.int32]
    table: NDArray[np.int8]
    recent: NDArray[np.bool_]
    bytes_read: int = 0
    bytes_written: int = 0

    @classmethod
    def garbage(cls, config: Config, memory: Image, rng: np.random.Generator) -> "State":
        """SRAMs of the configuration's sizes, filled at random."""
        n = config.array
        return cls(
            config,
            memory,
            rng.integers(-128, 128, (config.act_depth + 1, n), np.int8),
            rng.integers(-128, 128, (config.weight_depth, n), np.int8),
            rng.integers(0, 256, (8 * config.param_depth, n), np.uint8),
            rng.integers(-(1 << 31), 1 << 31, (config.acc_depth + 1, n), np.int32),
            rng.integers(-(1 << 31), 1 << 31, (config.dw_depth + 1, n), np.int32),
            rng.integers(-128, 128, 256, np.int8),
            np.zeros(config.act_depth + 1, np.bool_),
        )

    def windowed(self, source: int) -> NDArray:
        """The memory that windows of the SFU slide over."""
        return {SfuSource.ACTIVATIONS: self.act, SfuSource.ACCUMULATORS: self.acc, SfuSource.DEPTHWISE: self.dw_acc}[
            SfuSource(source)
        ]

    def bytes_at(self, region: int, offset: int, count: int) -> NDArray[np.uint8]:
        """A view of `count` bytes of a region; refuses what is not inside it."""
        offset &= OFFSET_MASK
        if region not in self.memory.limits or offset + count > self.memory.limits[Region(region)]:
            raise Refused("REGION_RANGE")
        return self.memory.region(Region(region))[offset : offset + count]
