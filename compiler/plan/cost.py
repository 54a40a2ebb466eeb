"""Cost model of a plan: cycles of the computing unit, of the memory port, and of starting and draining."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from systolith.compiler.jobs import depthwise
from systolith.compiler.jobs.job import Job, KSlice
from systolith.config import Config
from systolith.isa import Unit

__all__ = ["Costs", "Shape", "costs"]

READ_LATENCY = 100
DRAIN_LATENCY = 60
STORE_LINE = 8
"""Cycles between two pieces the store unit writes."""
RAMP = 8
"""Tiles looked at one by one: what goes wrong at the start shows in the first few."""


@dataclass(frozen=True)
class Shape:
    """What the model needs to know about a way to cut a job.

    `heights`, `widths`: rows and columns of output tiles; `inputs`, `lines`: words of each channel block loaded for
    each tile of an image, and the pieces they come in; `boxes`: K boxes; `group`: output blocks for each round over the
    tiles; `depth`: channel blocks loaded for a tile in the first round; `loaded`: the same in all rounds;
    `resident`: the input is in SRAM; `staged`: the output is stored from staging buffers; `alone_in`, `alone_out`: only
    one staging buffer, so nothing overlaps; `fetched`: the second operand is loaded.
    """

    heights: Sequence[int]
    widths: Sequence[int]
    inputs: Sequence[int]
    lines: Sequence[int]
    boxes: Sequence[KSlice]
    group: int
    depth: int
    loaded: int
    resident: bool
    staged: bool
    alone_in: bool = False
    alone_out: bool = False
    fetched: bool = False

    @property
    def sizes(self) -> list[int]:
        """Outputs of each tile."""
        return [height * width for height in self.heights for width in self.widths]


@dataclass(frozen=True)
class Costs:
    """Cycles: of the array (or the unit that computes instead) alone, of the read port alone, and of the layer from its
    first load to its last store."""

    array: int
    read: int
    all: int


def costs(job: Job, config: Config, shape: Shape) -> Costs:
    """Estimate a layer that runs alone; the memory takes or gives a beat a cycle."""
    array = config.array
    word = max(1.0, job.source.column * array / config.axi_bytes) if job.gather is None else 1.0
    loads = len(job.gather.passes) * shape.depth / job.blocks if job.gather else shape.depth
    burst = READ_LATENCY / config.axi_outstanding
    tile_loads = [
        loads * max(words * word, lines * burst) for words, lines in zip(shape.inputs, shape.lines, strict=True)
    ]
    sizes = shape.sizes
    own_read = job.unit == Unit.SFU and job.operand is not None
    lane_cycles = array / config.sfu_lanes * (job.reads + own_read)
    tile_work = _work(job, config, shape, lane_cycles)
    block_words = sum(job.weight_words(box, array) for box in shape.boxes)
    block_load = block_words * array / config.axi_bytes
    cached = shape.group * block_words <= config.weight_depth
    weights = job.out_blocks * block_load * (1 if cached else job.images * len(sizes))
    inputs = job.images * sum(tile_loads) * shape.loaded / shape.depth
    operands = job.images * job.out_blocks * _operands(job, shape, word, burst) if shape.fetched else 0.0
    work = job.images * job.out_blocks * sum(tile_work)
    rows = job.images * job.out_blocks * sum(sizes)
    sfu = rows * lane_cycles
    store = _stores(job, shape, word) if shape.staged else 0.0
    alone = inputs * shape.alone_in + (sfu + store) * shape.alone_out
    if shape.resident:
        start = _follow(job, shape, lane_cycles)
    else:
        start = _start(shape, tile_loads, tile_work, block_load, cached)
    if shape.staged:
        drain = sizes[-1] * (lane_cycles + word) + DRAIN_LATENCY
    else:
        drain = _lead(shape, tile_work, lane_cycles)
    executes = job.images * job.out_blocks * len(sizes) * len(shape.boxes)
    total = start + max(work, sfu, store, weights + inputs + operands - start) + alone + drain + 4 * executes
    return Costs(int(work), int(weights + inputs + operands), int(total))


def _work(job: Job, config: Config, shape: Shape, lane_cycles: float) -> list[float]:
    """Cycles of the computing unit for each tile of an output block."""
    if job.unit == Unit.EXECUTE:
        return [float(max(size, config.array) * job.k_tiles) for size in shape.sizes]
    if job.unit == Unit.SFU:
        return [size * lane_cycles for size in shape.sizes]
    return [
        float(depthwise.cycles(config, job.kernel, job.stride[1], job.dilation[1], height, width))
        for height in shape.heights
        for width in shape.widths
    ]


def _operands(job: Job, shape: Shape, word: float, burst: float) -> float:
    """Cycles of the read port for the second operand of an output block."""
    assert job.operand is not None
    cycles = 0.0
    for height in shape.heights:
        for width in shape.widths:
            rows, cols = job.operand.size(height, width)
            cycles += max(rows * cols * word, (1 if cols == job.cols else rows) * burst)
    return cycles


def _stores(job: Job, shape: Shape, word: float) -> float:
    """Cycles of the store unit: a tile of whole rows is one piece, other tiles are one for each row."""
    cycles = 0.0
    for height in shape.heights:
        for width in shape.widths:
            rows, cols = job.pooled(height, width)
            lines, words = (1, rows * cols) if width == job.cols else (rows, cols)
            cycles += lines * (words * word + STORE_LINE)
    return job.images * job.out_blocks * cycles


def _start(shape: Shape, tile_loads, tile_work, block_load: float, cached: bool) -> float:
    """Cycles the array waits for loads, over the first tiles of the first group: the most by which what has to be
    loaded is ahead of what has been computed."""
    parts, blocks = len(shape.boxes), shape.group
    first_load = tile_loads[0] + block_load
    behind = [
        first_load / parts,
        first_load - tile_work[0] * (parts - 1) / parts,
        tile_loads[0] + blocks * block_load - (blocks - 1 / parts) * tile_work[0],
    ]
    loaded = list(accumulate(tile_loads[:RAMP]))
    worked = list(accumulate(tile_work[:RAMP]))
    for tile in range(1, len(loaded)):
        weights = blocks * block_load * (1 if cached else tile + 1)
        behind.append(loaded[tile] + weights - blocks * worked[tile - 1])
    return max(behind) + READ_LATENCY


def _follow(job: Job, shape: Shape, lane_cycles: float) -> float:
    """Cycles a layer waits for the one before: nothing if its first tile needs only early rows, all of the last
    requantization if it needs every row."""
    first = shape.heights[0] * shape.widths[0]
    late = max(0.0, 3 * shape.heights[0] / job.rows - 1) / 2
    return late * (first * lane_cycles + DRAIN_LATENCY)


def _lead(shape: Shape, tile_work, lane_cycles: float) -> float:
    """Cycles the next layer waits for this one: until the second row of tiles, which it reads first, is requantized."""
    needed = min(1, len(shape.heights) - 1)
    after = (needed + 1) * len(shape.widths)
    ready = shape.heights[needed] * shape.widths[-1] * lane_cycles + DRAIN_LATENCY
    return max(0.0, ready - shape.group * sum(tile_work[after:]))
