"""Cells that an instruction touches, and refusals of what is out of bounds: the checker's basic types.

A cell is a word of activation, weight or parameter SRAM, a half of the accumulators, or a granule of a memory region.
Granules are so small that each whole word has granules of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.config import Config
from systolith.errors import SystolithError
from systolith.isa import ADDRESS_BITS, OFFSET_BITS, UNITS, Region

__all__ = ["ADDRESSES", "OFFSETS", "WEIGHT_STAGE", "Cells", "bytes_of", "check_half", "check_most",
           "check_positive", "check_region", "check_sram", "grid", "positions", "span"]  # fmt: skip

WEIGHT_STAGE = UNITS
"""Index of EXECUTE's weight stage among the starters; the others are units."""
ADDRESSES = 1 << ADDRESS_BITS
OFFSETS = 1 << OFFSET_BITS
MOST = 1 << 24
"""Cells of one instruction, so often as it touches them; the largest SRAMs have 2^18 words."""


@dataclass(frozen=True, eq=False)
class Cells:
    """Cells an instruction touches in one memory; `starter` is the unit or stage that must know that it may."""

    memory: str | Region
    write: bool
    cells: NDArray[np.int64]
    starter: int


def positions(first: int, count: int, stride: int, taps: int, dilation: int, size: int) -> NDArray[np.int64]:
    """Positions inside the tensor that outputs and taps read along one axis."""
    found = (first + np.arange(count)[:, None] * stride + np.arange(taps) * dilation).ravel()
    found = found[(found >= 0) & (found < size)]
    return np.flatnonzero(np.bincount(found, minlength=1)) if len(found) else found


def grid(where: str, first: int, rows: tuple[int, int], cols: tuple[int, int]) -> NDArray[np.int64]:
    """Addresses of rows and columns, each (count, stride), from `first` on."""
    check_most(where, rows[0] * cols[0])
    return (first + np.arange(rows[0])[:, None] * rows[1] + np.arange(cols[0]) * cols[1]).ravel()


def span(where: str, first: int, count: int, depth: int, name: str) -> NDArray[np.int64]:
    """`count` addresses from `first` on; refuses what is beyond the end."""
    check_sram(where, np.array([first + count - 1]), depth, name)
    return first + np.arange(count)


def bytes_of(where: str, starts: NDArray[np.int64], count: int, config: Config) -> NDArray[np.int64]:
    """Granules of a region that `count` bytes from each start touch; whole words have granules of their own."""
    granule = gcd(config.array, 64)
    check_most(where, len(starts) * (count // granule + 1))
    first, last = starts // granule, (starts + count - 1) // granule
    if (last - first == last[0] - first[0]).all():
        return (first[:, None] + np.arange(last[0] - first[0] + 1)).ravel()
    return np.concatenate([np.arange(a, b + 1) for a, b in zip(first, last, strict=True)])


def check_positive(where: str, **counts: int) -> None:
    """Refuses a count of zero."""
    for name, count in counts.items():
        if count < 1:
            raise SystolithError(f"{where} must have {name} of at least 1, not {count}")


def check_most(where: str, count: int) -> None:
    """Refuses what would take too much memory to look at."""
    if count > MOST:
        raise SystolithError(f"{where} must touch at most {MOST} cells, not {count}")


def check_half(where: str, first: int, last: int, depth: int) -> int:
    """The half that accumulator rows first .. last lie in; refuses what lies in no single one."""
    half = depth // 2
    if last >= depth or first // half != last // half:
        raise SystolithError(
            f"{where} must stay inside its accumulator half of {half} rows, not use rows {first} to {last}"
        )
    return first // half


def check_sram(where: str, cells: NDArray[np.int64], depth: int, name: str) -> NDArray[np.int64]:
    """The cells themselves; refuses what is beyond the end."""
    if int(cells.max()) >= depth:
        raise SystolithError(f"{where} must stay below word {depth} of {name} SRAM, not reach {int(cells.max())}")
    return cells


def check_region(where: str, region: int, starts: NDArray[np.int64], count: int, regions: Mapping[Any, int]) -> None:
    """Refuses bytes outside a region."""
    limit, end = regions.get(region, 0), int(starts.max()) + count
    if end > limit:
        name = Region(region).name if region in set(Region) else str(region)
        raise SystolithError(f"{where} must stay inside the {limit} bytes of region {name}, not reach byte {end}")
