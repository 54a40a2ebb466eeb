"""From plans to steps: every load, execute, requantization and store in program order, with its addresses.

Program order alone is correct: a step may overwrite what no later step needs. What may happen at the same time is left
to the queues and the tokens (`sync.py`): loads of the next tile, of the next output block and of the next layer run
ahead because they are other units' work and have buffers of their own.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from systolith.compiler.ir import Graph
from systolith.compiler.jobs import Box
from systolith.compiler.loads import Buffer, InputLoads
from systolith.compiler.memory import Ring, aligned
from systolith.compiler.plan import Planned
from systolith.compiler.step import Step
from systolith.compiler.tiling import MAX_COUNT, Keep, Span, input_span, whole
from systolith.compiler.weights import pack_parameters, pack_weights
from systolith.config import Config
from systolith.isa import Region

__all__ = ["Streams", "schedule"]


@dataclass(frozen=True)
class Tile:
    """Outputs oy .. oy + rows - 1, ox .. ox + cols - 1 of an image."""

    image: int
    oy: int
    rows: int
    ox: int
    cols: int


@dataclass
class Streams:
    """What goes on from layer to layer: rings of weight and parameter SRAM, region WEIGHTS, the accumulator half."""

    config: Config
    weights: Ring
    params: Ring
    data: bytearray = field(default_factory=bytearray)
    offsets: dict = field(default_factory=dict)
    half: int = 0

    @classmethod
    def of(cls, config: Config) -> "Streams":
        return cls(config, Ring(0, config.weight_depth), Ring(0, config.param_depth))

    def offset(self, key, content) -> int:
        """Where `content()` is in region WEIGHTS; appended when it is asked for first."""
        if key not in self.offsets:
            self.data.extend(bytes(aligned(len(self.data)) - len(self.data)))
            self.offsets[key] = len(self.data)
            self.data.extend(content())
        return self.offsets[key]


def schedule(graph: Graph, planned: Sequence[Planned], config: Config) -> tuple[list[Step], bytes]:
    """The steps of all layers, and the content of region WEIGHTS."""
    streams = Streams.of(config)
    steps = [step for item in planned for step in _Layer(graph, item, config, streams).steps()]
    return steps, bytes(streams.data)


class _Layer:
    """Makes the steps of one layer. Methods yield steps; what a loop needs is loaded when it is not there."""

    def __init__(self, graph: Graph, planned: Planned, config: Config, streams: Streams):
        self.graph, self.config, self.streams = graph, config, streams
        self.job, self.plan, self.source, self.target = planned.job, planned.plan, planned.source, planned.target
        (in_words, in_count), (out_words, out_count) = self.plan.input, self.plan.output
        self.input = Ring(planned.hole[0], in_words * in_count)
        # Input and output at opposite ends: the store unit loses every read of a bank that EXECUTE is reading.
        self.output = Ring(sum(planned.hole) - out_words * out_count, out_words * out_count)
        self.loads = InputLoads(self.job, self.source, config.array)
        self.loaded: dict[Hashable, dict[int, int]] = {}
        self.layer = self.job.layer
        self.output_value = graph.values[self.layer.output]

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
        """One output block of a tile: accumulate all K boxes, requantize, store. `reach`: input blocks of its group."""
        acc = self.streams.half * self.config.acc_half
        self.streams.half ^= 1
        for number, box in enumerate(self.plan.boxes):
            weight = yield from self._weights(block, box)
            spans = self._spans(tile, box)
            blocks = self.job.firsts[block] + box.blocks[0], box.blocks[1]
            buffer = yield from self._input(tile, box, blocks, reach, spans)
            act = buffer.address(blocks[0], spans[0].first, spans[1].first)
            yield self._execute(tile, box, buffer, act, spans, weight, acc, number > 0)
        param = yield from self._parameters(block)
        yield from self._finish(tile, block, acc, param)

    def _weights(self, block: int, box: Box):
        """Word of weight SRAM with the K tiles of a box, loaded if need be."""
        key, words = (self.job.index, block, box), box.tiles * self.config.array
        address = self.streams.weights.find(key)
        if address is None:
            address = self.streams.weights.take(key, words)
            offset = self.streams.offset(key, lambda: pack_weights(self.job, block, box))
            yield self._step("LOAD.W", region=Region.WEIGHTS, offset=offset, sram=address, words=words, target=0)
        return address

    def _parameters(self, block: int):
        """Word of parameter SRAM for an output block. Blocks come in pieces of up to half of it."""
        piece = min(self.job.out_blocks, self.config.param_depth // 2)
        first, count = block - block % piece, min(piece, self.job.out_blocks - (block - block % piece))
        key = (self.job.index, "parameters", first)
        address = self.streams.params.find(key)
        if address is None:
            address = self.streams.params.take(key, count)
            content = lambda: pack_parameters(self.layer, self.job.zero_point, self.config.array)  # noqa: E731
            offset = self.streams.offset((self.job.index, "parameters"), content) + first * 8 * self.config.array
            yield self._step(
                "LOAD.W", region=Region.WEIGHTS, offset=offset, sram=8 * address, words=8 * count, target=1
            )
        return address + block - first

    def _spans(self, tile: Tile, box: Box) -> tuple[Span, Span]:
        """Input rows and columns that a tile and box read."""
        job = self.job
        return (
            input_span(tile.oy, tile.rows, job.stride[0], job.pad[0], box.ky, job.dilation[0], job.height),
            input_span(tile.ox, tile.cols, job.stride[1], job.pad[1], box.kx, job.dilation[1], job.width),
        )

    def _input(self, tile: Tile, box: Box, blocks: tuple[int, int], reach: tuple[int, int], spans: tuple[Span, Span]):
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

    def _execute(
        self, tile: Tile, box: Box, buffer: Buffer, act: int, spans, weight: int, acc: int, accumulate: bool
    ) -> Step:
        """Coordinates are relative to the first input row and column that exist for this tile and box."""
        job, (rows, columns) = self.job, spans
        constants = {
            "CONFIG.EXECUTE.input": {
                "height": rows.end - rows.first,
                "width": columns.end - columns.first,
                "row_stride": buffer.row,
                "block_stride": buffer.block,
                "zero_point": job.zero_point,
            },
            "CONFIG.EXECUTE.kernel": {
                "kernel_y": box.ky[1],
                "kernel_x": box.kx[1],
                "blocks": box.blocks[1],
                "stride_y": job.stride[0],
                "stride_x": job.stride[1],
                "dilation_y": job.dilation[0],
                "dilation_x": job.dilation[1],
            },
        }
        return self._step(
            "EXECUTE",
            constants,
            act=act,
            weight=weight,
            y0=rows.start - rows.first,
            x0=columns.start - columns.first,
            rows=tile.rows,
            cols=tile.cols,
            acc=acc,
            accumulate=int(accumulate),
        )

    def _finish(self, tile: Tile, block: int, acc: int, param: int) -> Iterator[Step]:
        """Requantize a tile into the output tensor or a staging buffer, and store it if the tensor is in memory."""
        strides, target = self.job.target, self.target
        word = tile.image * strides.image + block * strides.block + tile.oy * strides.row + tile.ox
        if target.sram is None:
            sram, row = self.output.take((tile, block), self.plan.output[0]), tile.cols
        else:
            sram, row = target.sram + word, strides.row
        layer, value = self.layer, self.output_value
        constants = {
            "CONFIG.SFU.output": {
                "zero_point": value.zero_point,
                "clamp_min": layer.low,
                "clamp_max": layer.high,
                "row_stride": row,
            }
        }
        yield self._step("SFU", constants, mode=0, acc=acc, dst=sram, rows=tile.rows, cols=tile.cols, param=param)
        if target.region is not None:
            rows, cols = tile.rows, tile.cols
            if strides.row == row == cols and rows * cols <= MAX_COUNT:
                rows, cols = 1, rows * cols
            constants = {"CONFIG.STORE.target": {"row_pitch": strides.row * self.config.array, "row_stride": row}}
            yield self._step(
                "STORE",
                constants,
                region=target.region,
                offset=target.offset + word * self.config.array,
                sram=sram,
                rows=rows,
                cols=cols,
            )

    def _step(self, name: str, constants: Mapping | None = None, **fields: int) -> Step:
        return Step(name, fields, constants or {}, self.job.index)
