"""Loads from memory into staging buffers: copies of blocked tensors, and gathered pixels."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from systolith.compiler.jobs.job import Job
from systolith.compiler.layout.layout import Strides
from systolith.compiler.plan.placement import Place
from systolith.compiler.plan.tiling import MAX_COUNT, Span
from systolith.compiler.schedule.step import Step
from systolith.isa import OFFSET_BITS

__all__ = ["Buffer", "InputLoads", "copy"]

OFFSET_MASK = (1 << OFFSET_BITS) - 1


@dataclass(frozen=True)
class Buffer:
    """Where input words are: word (block, y, x) at base + (block - b0) * block + (y - y0) * row + x - x0."""

    base: int
    block: int
    row: int
    b0: int = 0
    y0: int = 0
    x0: int = 0

    def address(self, block: int, y: int, x: int) -> int:
        return self.base + (block - self.b0) * self.block + (y - self.y0) * self.row + x - self.x0


@dataclass(frozen=True, eq=False)
class InputLoads:
    """The steps that bring parts of a job's input from `source` into activation SRAM."""

    job: Job
    source: Place
    array: int

    def staged(self, base: int, blocks: tuple[int, int], rows: Span, columns: Span) -> Buffer:
        """A staging buffer's layout: as the tensor's, so that what is contiguous there is contiguous here."""
        height, width = rows.end - rows.first, columns.end - columns.first
        if _blocks_in_rows(self.job.source) and self.job.gather is None:
            return Buffer(base, width, blocks[1] * width, blocks[0], rows.first, columns.first)
        return Buffer(base, height * width, width, blocks[0], rows.first, columns.first)

    def load(self, image: int, buffer: Buffer, blocks, rows, columns) -> Iterator[Step]:
        """Load blocks (first, count), rows and columns [first, end) of an image into their places in `buffer`."""
        if self.job.gather is not None:
            yield from self._gather(image, buffer, blocks, rows, columns)
            return
        strides, width = self.job.source, columns[1] - columns[0]
        start = image * strides.image + blocks[0] * strides.block + rows[0] * strides.row + columns[0] * strides.column
        height = rows[1] - rows[0]
        sram = buffer.address(blocks[0], rows[0], columns[0])
        if strides.column > 1:
            yield from self._thin(start, sram, blocks[1], (height, width), buffer)
            return
        if _blocks_in_rows(strides) and strides.block == buffer.block == width:
            lines = [(start, sram, (height, strides.row, buffer.row), blocks[1] * width)]
        elif (height == 1 or strides.row == buffer.row == width) and height * width <= MAX_COUNT:
            lines = [(start, sram, (blocks[1], strides.block, buffer.block), height * width)]
        else:
            lines = [
                (start + n * strides.block, sram + n * buffer.block, (height, strides.row, buffer.row), width)
                for n in range(blocks[1])
            ]
        for item in lines:
            yield from copy(self.job.index, self.source, self.array, *item)

    def _thin(self, start: int, sram: int, blocks: int, size: tuple[int, int], buffer: Buffer) -> Iterator[Step]:
        """Words that are apart in memory: rows and columns that strides of a 1x1 kernel use."""
        strides, array, (height, width) = self.job.source, self.array, size
        window = {
            "step": strides.column * array,
            "length": array,
            "lane": 0,
            "zero_point": 0,
            "row_stride": buffer.row,
        }
        for block in range(blocks):
            for y, rows, x, cols in _pieces(height, width):
                source = {
                    "row_pitch": strides.row * array & OFFSET_MASK,
                    "height": rows,
                    "row_step": 1,
                    "row_bytes": ((cols - 1) * strides.column + 1) * array,
                }
                yield self._step(
                    {"CONFIG.LOAD_A.source": source, "CONFIG.LOAD_A.window": window},
                    offset=self.source.offset
                    + (start + block * strides.block + y * strides.row + x * strides.column) * array,
                    sram=sram + block * buffer.block + y * buffer.row + x,
                    rows=rows,
                    cols=cols,
                    x0=0,
                    y0=0,
                )

    def _gather(self, image: int, buffer: Buffer, blocks, rows, columns) -> Iterator[Step]:
        """LOAD.A passes that pack kernel taps into words."""
        gather, height, cols = self.job.gather, rows[1] - rows[0], columns[1] - columns[0]
        assert gather is not None
        source = {
            "row_pitch": gather.row_step * gather.row_bytes,
            "height": gather.height,
            "row_step": gather.row_step,
            "row_bytes": gather.row_bytes,
        }
        for item in gather.passes:
            if not blocks[0] <= item.word < blocks[0] + blocks[1]:
                continue
            window = {
                "step": gather.step,
                "length": item.length,
                "lane": item.lane,
                "zero_point": self.job.pad_value,
                "row_stride": buffer.row,
            }
            for y, count, x, width in _pieces(height, cols):
                y0 = (rows[0] + y) * gather.row_step - gather.top + item.dy
                offset = self.source.offset + image * self.job.source.image + y0 * gather.row_bytes
                yield self._step(
                    {"CONFIG.LOAD_A.source": source, "CONFIG.LOAD_A.window": window},
                    offset=offset & OFFSET_MASK,
                    sram=buffer.address(item.word, rows[0] + y, columns[0] + x),
                    rows=count,
                    cols=width,
                    x0=(columns[0] + x) * gather.step - gather.left + item.dx,
                    y0=y0,
                )

    def _step(self, constants: Mapping, **fields: int) -> Step:
        return Step("LOAD.A", {"region": self.source.home, **fields}, constants, self.job.index)


def copy(layer: int, source: Place, array: int, start: int, sram: int, lines, words: int) -> Iterator[Step]:
    """LOAD.A of `lines`, (count, stride in memory, stride in SRAM), of `words` neighbouring words from word `start` of
    a tensor on."""
    count, pitch, stride = lines
    if pitch == stride == words:
        count, words = 1, count * words
    for line in range(0, count, MAX_COUNT):
        for word in range(0, words, MAX_COUNT):
            rows, cols = min(MAX_COUNT, count - line), min(MAX_COUNT, words - word)
            constants = {
                "CONFIG.LOAD_A.source": {
                    "row_pitch": pitch * array & OFFSET_MASK,
                    "height": rows,
                    "row_step": 1,
                    "row_bytes": cols * array,
                },
                "CONFIG.LOAD_A.window": {
                    "step": array,
                    "length": array,
                    "lane": 0,
                    "zero_point": 0,
                    "row_stride": stride,
                },
            }
            fields = {
                "region": source.home,
                "offset": source.offset + (start + line * pitch + word) * array,
                "sram": sram + line * stride + word,
                "rows": rows,
                "cols": cols,
                "x0": 0,
                "y0": 0,
            }
            yield Step("LOAD.A", fields, constants, layer)


def _pieces(height: int, width: int) -> Iterator[tuple[int, int, int, int]]:
    """(first row, rows, first column, columns) of the parts that an instruction can load."""
    for y in range(0, height, MAX_COUNT):
        for x in range(0, width, MAX_COUNT):
            yield y, min(MAX_COUNT, height - y), x, min(MAX_COUNT, width - x)


def _blocks_in_rows(strides: Strides) -> bool:
    return strides.block < strides.row
