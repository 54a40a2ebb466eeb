"""Plans to steps, layer by layer: every load, EXECUTE, SFU step and store, with its addresses.
 This order alone is correct: a step may overwrite words that no later step needs. Parallelism comes later, from another
order (`compiler/order/interleave.py`), from queues and from tokens (`compiler/order/tokens.py`): loads of the next
tile, of the next output block and of the next layer run ahead, because they are other units' work and have buffers of
their own.
"""

from collections.abc import Hashable, Iterator, Sequence
from itertools import groupby

from systolith.compiler.ir.graph import Conv
from systolith.compiler.jobs.job import KSlice
from systolith.compiler.jobs.sfu import regions
from systolith.compiler.plan.placement import Ring
from systolith.compiler.plan.plan import Planned
from systolith.compiler.plan.tiling import Keep, Span, input_span, whole
from systolith.compiler.schedule.compute import depthwise, execute
from systolith.compiler.schedule.constants import Streams
from systolith.compiler.schedule.loads import Buffer, InputLoads, copy
from systolith.compiler.schedule.outputs import OutputSteps, Second, Source, Tile, TilePart
from systolith.compiler.schedule.staging import staging
from systolith.compiler.schedule.step import Step
from systolith.config import Config
from systolith.isa import SfuSource, Unit

__all__ = ["schedule"]


def schedule(planned: Sequence[Planned], config: Config) -> tuple[list[Step], bytes]:
    """The steps of all layers, and the content of region WEIGHTS."""
    streams = Streams.of(config)
    steps = [step for item in planned for step in _Layer(item, config, streams).steps()]
    return steps, bytes(streams.data)


class _Layer:
    """Makes the steps of one layer. Methods yield steps; what a loop needs is loaded when it is not there."""

    def __init__(self, planned: Planned, config: Config, streams: Streams):
        self.config, self.streams = config, streams
        self.job, self.plan, self.source, self.second = planned.job, planned.plan, planned.source, planned.operand
        self.input, self.operand, output = (Ring(*buffers) for buffers in staging(planned, config))
        self.loads = InputLoads(self.job, self.source, config.array)
        self.finish = OutputSteps(self.job, planned.target, output, self.plan.output[0], config.array)
        self.loaded: dict[Hashable, dict[int, int]] = {}

    def steps(self) -> Iterator[Step]:
        """Groups, images, tiles, output blocks."""
        for first in range(0, self.job.out_blocks, self.plan.group):
            group = range(first, min(first + self.plan.group, self.job.out_blocks))
            reach = self.job.reach(first, len(group))
            for tile in self._tiles():
                for block in group:
                    yield from self._block(tile, block, reach)

    def _tiles(self) -> Iterator[Tile]:
        for image in range(self.job.images):
            oy = 0
            for rows in self.plan.heights:
                ox = 0
                for cols in self.plan.widths:
                    yield Tile(image, oy, rows, ox, cols)
                    ox += cols
                oy += rows

    def _block(self, tile: Tile, block: int, reach: tuple[int, int]) -> Iterator[Step]:
        """One output block of a tile: make its sums, requantize, store. `reach`: input blocks of its group."""
        if self.job.unit == Unit.SFU:
            source = yield from self._read(tile, block, reach)
        else:
            source = yield from self._sums(tile, block, reach)
        second = yield from self._second(tile, block)
        yield from self.finish.steps(tile, block, source, second, self._parts(tile, block))

    def _read(self, tile: Tile, block: int, reach: tuple[int, int]):
        """What the SFU alone reads: a window over the input."""
        spans = self._spans(tile, whole(self.job))
        buffer = yield from self._input(tile, whole(self.job), (block, 1), reach, spans)
        rows, columns = spans
        return Source(
            SfuSource.ACTIVATIONS,
            buffer.address(block, rows.first, columns.first),
            (rows.end - rows.first, columns.end - columns.first),
            buffer.row,
            (rows.start - rows.first, columns.start - columns.first),
        )

    def _sums(self, tile: Tile, block: int, reach: tuple[int, int]):
        """Accumulate all K boxes, on the array or on the depthwise unit, for the SFU to drain."""
        job, config = self.job, self.config
        array = job.unit == Unit.EXECUTE
        acc = self.streams.half(job.unit) * (config.acc_half if array else config.dw_half)
        for number, box in enumerate(self.plan.boxes):
            weight = yield from self.streams.load_weights(job, block, box)
            spans = self._spans(tile, box)
            blocks = job.firsts[block] + box.blocks[0], box.blocks[1]
            buffer = yield from self._input(tile, box, blocks, reach, spans)
            act = buffer.address(blocks[0], spans[0].first, spans[1].first)
            if array:
                yield execute(job, tile, box, spans, (buffer.row, buffer.block), act, weight, acc, number > 0)
            else:
                yield depthwise(job, tile, spans, buffer.row, act, weight, acc)
        memory = SfuSource.ACCUMULATORS if array else SfuSource.DEPTHWISE
        return Source(memory, acc, (tile.rows, tile.cols), tile.cols, (0, 0))

    def _parts(self, tile: Tile, block: int) -> Iterator[Step | TilePart]:
        """Parts of a tile, each with its word of parameter SRAM, and the steps that load that word: the next part's
        word may take its place."""
        layer = self.job.layer
        if isinstance(layer, Conv):
            word = yield from self.streams.load_channels(self.job, layer, block)
            rows, cols = self.job.pooled(tile.rows, tile.cols)
            yield 0, rows, 0, cols, word
        else:
            for part in regions(self.job, layer, (tile.oy, tile.rows), (tile.ox, tile.cols)):
                word = yield from self.streams.load_alike(self.job, part.bias, part.scale)
                yield *part.rows, *part.cols, word

    def _second(self, tile: Tile, block: int):
        """Where the second operand of a tile is, loaded if need be."""
        operand = self.job.operand
        if operand is None or self.second is None:
            return None
        strides = operand.strides
        start = tile.image * strides.image + block * strides.block + tile.oy * strides.row + tile.ox * strides.column
        if self.second.sram is not None:
            return Second(operand.second, self.second.sram + start, strides.row, strides.column)
        rows, cols = operand.size(tile.rows, tile.cols)
        key = tile.image, block, start
        address = self.operand.find(key)
        if address is None:
            address = self.operand.take(key, self.plan.operand[0])
            lines = rows, strides.row, cols
            yield from copy(self.job.index, self.second, self.config.array, start, address, lines, cols)
        return Second(operand.second, address, cols if strides.row else 0, strides.column)

    def _spans(self, tile: Tile, box: KSlice) -> tuple[Span, Span]:
        """Input rows and columns that a tile and box read."""
        job = self.job
        return (
            input_span(tile.oy, tile.rows, job.stride[0], job.pad[0], box.ky, job.dilation[0], job.height),
            input_span(tile.ox, tile.cols, job.stride[1], job.pad[1], box.kx, job.dilation[1], job.width),
        )

    def _input(
        self, tile: Tile, box: KSlice, blocks: tuple[int, int], reach: tuple[int, int], spans: tuple[Span, Span]
    ):
        """The buffer with the input blocks of a tile and box, loaded if need be; it is kept for all blocks of `reach`,
        or for one box."""
        job = self.job
        if self.plan.keep == Keep.RESIDENT:
            return Buffer(self.source.word + tile.image * job.source.image, job.source.block, job.source.row)
        if self.plan.keep == Keep.IMAGE:
            key, rows, columns = (tile.image, reach), Span(0, job.height, 0), Span(0, job.width, 0)
            end = spans[0].end
        elif self.plan.keep == Keep.TILE:
            key, (rows, columns) = (tile, reach), self._spans(tile, whole(job))
            end = rows.end
        else:
            key, (rows, columns), reach = (tile, box.ky, box.kx, blocks), spans, blocks
            end = rows.end
        buffer = self.loads.staged(self._slot(key), reach, rows, columns)
        yield from self._fill(key, tile.image, buffer, blocks, (rows.first, end), (columns.first, columns.end))
        return buffer

    def _fill(self, key, image: int, buffer: Buffer, blocks: tuple[int, int], rows, columns) -> Iterator[Step]:
        """Load the rows [first, end) of some blocks, each from where its last load ended."""
        loaded = self.loaded[key]
        for first, run in groupby(range(blocks[0], sum(blocks)), lambda block: loaded.get(block, rows[0])):
            if first < rows[1]:
                part = list(run)
                loaded.update((block, rows[1]) for block in part)
                yield from self.loads.load(image, buffer, (part[0], len(part)), (first, rows[1]), columns)

    def _slot(self, key) -> int:
        """The staging buffer of a tile or image; a new one has nothing loaded."""
        address = self.input.find(key)
        if address is None:
            address = self.input.take(key, self.plan.input[0])
            self.loaded[key] = {}
        return address
