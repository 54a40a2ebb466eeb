"""Job: a layer as the units run it, loops over words of a tensor.

`array.py`, `packed.py`, `depthwise.py` and `sfu.py` make jobs of layers. `candidates.py` lists all jobs of a layer.
"""

from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from systolith.compiler.ir.graph import Conv, Graph, SfuOp, Window
from systolith.compiler.layout.layout import Strides, layout_of
from systolith.config import Config
from systolith.errors import SystolithError, UnsupportedError
from systolith.isa import EXTENT_BITS, STEP_BITS, SecondOperand, Unit

__all__ = [
    "Gather",
    "GatherLoad",
    "Job",
    "KSlice",
    "Operand",
    "check_window",
    "input_strides",
    "is_small",
    "operand_of",
]

LARGEST_STEP = (1 << STEP_BITS) - 1
"""Largest kernel, stride and dilation of an instruction."""
LARGEST_PAD = (1 << EXTENT_BITS - 1) - 1
"""Farthest that a window may begin, or a tile lie, outside the input."""


@dataclass(frozen=True)
class GatherLoad:
    """One gathering load: `length` bytes for lane `lane` of block `word`, from `dy` rows and `dx` bytes further on."""

    word: int
    lane: int
    length: int
    dy: int
    dx: int


@dataclass(frozen=True)
class Gather:
    """How word (row v, column x) is gathered: from source row v * row_step - top + dy, byte x * step - left + dx."""

    passes: tuple[GatherLoad, ...]
    row_step: int
    step: int
    top: int
    left: int
    height: int
    row_bytes: int


@dataclass(frozen=True)
class KSlice:
    """K tiles of one EXECUTE: kernel rows, kernel columns and channel blocks as (first, count); block 0 is the first
    that the output block reads."""

    ky: tuple[int, int]
    kx: tuple[int, int]
    blocks: tuple[int, int]

    @property
    def tiles(self) -> int:
        return self.ky[1] * self.kx[1] * self.blocks[1]


@dataclass(frozen=True)
class Operand:
    """The second operand of the SFU: the ISA's `second`, and its layout, with 0 where one word serves all rows or all
    columns."""

    second: SecondOperand
    name: str
    strides: Strides

    def size(self, rows: int, cols: int) -> tuple[int, int]:
        """Rows and columns of it for an output tile."""
        return (rows if self.strides.row else 1), (cols if self.strides.column else 1)


@dataclass(frozen=True, eq=False)
class Job:
    """Output tiles of `rows` x `cols` that `unit` makes from an input of `height` x `width` words in channel blocks.

    `unit` is EXECUTE (the array) or DEPTHWISE, whose sums the SFU drains, or the SFU itself. Output block b reads
    `blocks` channel blocks of the input, from `firsts[b]` on, which ascend: the whole input, or with groups what the
    groups of its channels touch. Positions outside the input read as `pad_value`.

    `weights`: int8 [output block, ky, kx, block, input channel, output channel], for DEPTHWISE [output block, ky, kx,
    1, channel]. The SFU leaves one output of each `pool` (rows, columns), whose windows may read `lap` columns more.
    `source` and `target` are the strides of the input (before gathering, if there is a `gather`) and of the output.
    """

    index: int
    layer: Conv | SfuOp
    unit: Unit
    pad_value: int
    images: int
    height: int
    width: int
    blocks: int
    firsts: tuple[int, ...]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    pad: tuple[int, int]
    rows: int
    cols: int
    out_blocks: int
    source: Strides
    target: Strides
    weights: NDArray[np.int8] | None = None
    gather: Gather | None = None
    operand: Operand | None = None
    pool: tuple[int, int] = (1, 1)

    @property
    def taps(self) -> int:
        """Positions of the kernel."""
        return self.kernel[0] * self.kernel[1]

    @property
    def k_tiles(self) -> int:
        """Of each output block."""
        return self.taps * self.blocks

    def weight_words(self, box: KSlice, array: int) -> int:
        """Words of weight SRAM that a box needs."""
        return {Unit.EXECUTE: box.tiles * array, Unit.DEPTHWISE: box.tiles, Unit.SFU: 0}[self.unit]

    @property
    def lap(self) -> int:
        """Columns that neighbouring windows of the pool share; then every tile has whole rows."""
        window = self.layer.pool if isinstance(self.layer, Conv) else None
        return window.lap[1] if window else 0

    @property
    def reads(self) -> float:
        """Values that the SFU reads for each position of a tile, without a second operand."""
        if self.unit == Unit.SFU:
            return self.taps
        window = self.layer.pool if isinstance(self.layer, Conv) else None
        return prod(window.kernel) / prod(window.stride) if window else 1.0

    def pooled(self, rows: int, cols: int) -> tuple[int, int]:
        """Rows and columns that the SFU leaves of a tile."""
        return rows // self.pool[0], (cols - self.lap) // self.pool[1]

    def capacity(self, config: Config) -> int:
        """Most outputs in a tile: half of the unit's accumulators; the SFU alone keeps to the array's grain."""
        return config.dw_half if self.unit == Unit.DEPTHWISE else config.acc_half

    def reach(self, first: int, count: int) -> tuple[int, int]:
        """Channel blocks of the input, (first, count), that some neighbouring output blocks read."""
        low = self.firsts[first]
        return low, self.firsts[first + count - 1] + self.blocks - low

    @property
    def packing(self) -> str:
        """How kernel taps share words: "none", "rows" (the taps of one kernel row) or "full"."""
        return "none" if self.gather is None else "full" if self.kernel == (1, 1) else "rows"


def input_strides(graph: Graph, layer: Conv | SfuOp, array: int) -> Strides:
    """Layout of a layer's input, whose columns must be neighbours."""
    return _neighbours(graph, layer, layer.input, array)


def operand_of(graph: Graph, layer: Conv | SfuOp, array: int) -> Operand | None:
    """The layer's second operand as it lies there."""
    multiply = layer.multiply if isinstance(layer, SfuOp) else None
    second = multiply or layer.add
    if second is None:
        return None
    strides = _neighbours(graph, layer, second.operand, array)
    _, _, height, width = graph.values[second.operand].dims
    row, column = (strides.row if height > 1 else 0), (strides.column if width > 1 else 0)
    mode = SecondOperand.MULTIPLY if multiply else SecondOperand.ADD
    return Operand(mode, second.operand, Strides(strides.image, strides.block, row, column))


def is_small(window: Window) -> bool:
    """Whether the SFU's instructions have room for kernel, stride and dilation of a window."""
    return max(*window.kernel, *window.stride, *window.dilation) <= LARGEST_STEP


def check_window(layer: Conv | SfuOp) -> None:
    """Raises UnsupportedError for a window that no instruction has."""
    window = layer.window
    if max(*window.stride, *window.dilation) > LARGEST_STEP:
        raise UnsupportedError(
            f"Layer '{layer.name}' must have strides and dilations up to {LARGEST_STEP}, "
            f"not {window.stride} and {window.dilation}",
            layer.output,
        )
    if max(window.pads) > LARGEST_PAD:
        raise UnsupportedError(
            f"Layer '{layer.name}' must have pads of up to {LARGEST_PAD}, not {window.pads}", layer.output
        )


def _neighbours(graph: Graph, layer: Conv | SfuOp, name: str, array: int) -> Strides:
    strides = layout_of(graph, name, array).strides
    if strides.column != 1:
        raise SystolithError(
            f"Layer '{layer.name}' must read a value whose columns are neighbours, not '{name}' "
            f"with a step of {strides.column}"
        )
    return strides
