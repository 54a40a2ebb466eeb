"""Output steps, the end of every output tile: SFU steps into the output tensor or a staging buffer, and stores."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from systolith.compiler.ir.graph import Conv, SfuOp, Window
from systolith.compiler.jobs.job import Job
from systolith.compiler.plan.placement import Place, Ring
from systolith.compiler.plan.tiling import MAX_COUNT
from systolith.compiler.schedule.step import Step
from systolith.isa import ADDRESS_BITS, Reduction, SecondOperand, SfuSource

__all__ = ["OutputSteps", "Second", "Source", "Tile", "TilePart"]

ADDRESS_MASK = (1 << ADDRESS_BITS) - 1
TilePart = tuple[int, int, int, int, int]
"""First row, rows, first column, columns of a tile, and its word of parameter SRAM."""


@dataclass(frozen=True)
class Tile:
    """What the job's unit makes at a time: oy .. oy + rows - 1, ox .. ox + cols - 1 of an image, before pooling."""

    image: int
    oy: int
    rows: int
    ox: int
    cols: int


@dataclass(frozen=True)
class Source:
    """What the SFU reads: from which `memory`, the address of the first position there is, how many rows and columns
    there are, and where the window of the first output begins relative to it."""

    memory: SfuSource
    address: int
    size: tuple[int, int]
    row: int
    start: tuple[int, int]


@dataclass(frozen=True)
class Second:
    """The second operand of a tile: what is done with it, first word, and words from one row or column to the next."""

    second: SecondOperand
    address: int
    row: int
    column: int


class OutputSteps:
    """Makes the last steps of a job's tiles. `output` is the ring of staging buffers, of `words` each."""

    def __init__(self, job: Job, target: Place, output: Ring, words: int, array: int):
        self.job, self.target, self.output, self.words, self.array = job, target, output, words, array
        self.constants, self.window = _constants(job.layer), _window(job)
        self.table = None if job.layer.table is None else job.layer.table.tobytes()
        average = isinstance(job.layer, SfuOp) and job.layer.reduce == "average"
        self.reduce = Reduction.SUM if average else Reduction.MAXIMUM

    def steps(
        self, tile: Tile, block: int, source: Source, second: Second | None, parts: Iterable[Step | TilePart]
    ) -> Iterator[Step]:
        """One SFU step for each part of the tile, and a store if the output is in memory. Steps among the parts, which
        load what the next part needs, stay where they are."""
        (pool_y, pool_x), strides, target = self.job.pool, self.job.target, self.target
        rows, cols = self.job.pooled(tile.rows, tile.cols)
        word = tile.image * strides.image + block * strides.block
        word += tile.oy // pool_y * strides.row + tile.ox // pool_x * strides.column
        if target.sram is None:
            sram, row, column = self.output.take((tile, block), self.words), cols, 1
        else:
            sram, row, column = target.sram + word, strides.row, strides.column
        for part in parts:
            yield part if isinstance(part, Step) else self._sfu(part, source, second, sram, row, column)
        if target.region is not None:
            yield from self._stores(word, sram, (rows, row), (cols, column))

    def _sfu(self, part: TilePart, source: Source, second: Second | None, sram: int, row: int, column: int) -> Step:
        y, rows, x, cols, param = part
        constants = {
            "CONFIG.SFU.output": {**self.constants["output"], "row_stride": row, "col_stride": column},
            "CONFIG.SFU.input": {
                "height": source.size[0],
                "width": source.size[1],
                "row_stride": source.row,
                "y0": source.start[0] + y * self.window["stride_y"],
                "x0": source.start[1] + x * self.window["stride_x"],
                "pad": self.job.pad_value if source.memory == SfuSource.ACTIVATIONS else 0,
            },
            "CONFIG.SFU.window": self.window,
        }
        if second:
            zeros = self.constants["operand"]
            constants["CONFIG.SFU.operand"] = {"row_stride": second.row, "col_step": second.column, **zeros}
        if "add" in self.constants:
            constants["CONFIG.SFU.add"] = self.constants["add"]
        fields = {
            "memory": source.memory,
            "reduce": self.reduce,
            "second": second.second if second else SecondOperand.NONE,
            "drain": 0,
            "source": source.address & ADDRESS_MASK,
            "operand": second.address + y * second.row + x * second.column if second else 0,
            "dst": sram + y * row + x * column,
            "rows": rows,
            "cols": cols,
            "param": param,
        }
        return Step("SFU", fields, constants, self.job.index, self.table)

    def _stores(self, word: int, sram: int, rows: tuple[int, int], cols: tuple[int, int]) -> Iterator[Step]:
        """Stores of rows and cols, (count, words from one to the next in SRAM), to `word` of the output."""
        strides, (count, row), (width, column) = self.job.target, rows, cols
        if strides.column > 1 and width > 1:
            # Words apart in memory: each row of the tile as a column of rows of one word.
            for y in range(count):
                first = word + y * strides.row
                yield self._store(first, sram + y * row, (width, strides.column, column), 1)
        elif strides.row == row == width and count * width <= MAX_COUNT:
            yield self._store(word, sram, (1, strides.row, row), count * width)
        else:
            yield self._store(word, sram, (count, strides.row, row), width)

    def _store(self, word: int, sram: int, lines: tuple[int, int, int], cols: int) -> Step:
        """`lines`: how many, and words from one to the next in memory and in SRAM."""
        rows, pitch, stride = lines
        target = self.target
        fields = {
            "region": target.home,
            "offset": target.offset + word * self.array,
            "sram": sram,
            "rows": rows,
            "cols": cols,
        }
        constants = {"CONFIG.STORE.target": {"row_pitch": pitch * self.array, "row_stride": stride}}
        return Step("STORE", fields, constants, self.job.index)


def _window(job: Job) -> dict[str, int]:
    """What the SFU reduces: a map's window, or that of a pool over the accumulators."""
    layer = job.layer
    if isinstance(layer, Conv):
        window = layer.pool or Window()
    else:
        window = Window(job.kernel, job.stride, job.dilation)
    return {
        "kernel_y": window.kernel[0],
        "kernel_x": window.kernel[1],
        "stride_y": window.stride[0],
        "stride_x": window.stride[1],
        "dilation_y": window.dilation[0],
        "dilation_x": window.dilation[1],
    }


def _constants(layer: Conv | SfuOp) -> dict[str, dict[str, int]]:
    """What stays the same for all tiles: parts of CONFIG.SFU.output, operand and add."""
    found = {
        "output": {
            "zero_point": layer.zero_point,
            "clamp_min": layer.low,
            "clamp_max": layer.high,
            "lookup": int(layer.table is not None),
        }
    }
    add, multiply = layer.add, layer.multiply if isinstance(layer, SfuOp) else None
    if second := multiply or add:
        found["operand"] = {"zero_a": second.zeros[0], "zero_b": second.zeros[1]}
    if add:
        first, other, shift = add.constants
        found["add"] = {
            "multiplier_a": first,
            "multiplier_b": other,
            "shift": shift,
            "zero_point": add.zero_point,
            "clamp_min": add.low,
            "clamp_max": add.high,
        }
    return found
