"""The cost model a plan is chosen by: cycles of the array, of the memory port, and what starting and draining add."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from systolith.compiler.jobs import Box, Job
from systolith.config import Config

__all__ = ["Costs", "Shape", "costs"]

READ_LATENCY = 100
DRAIN_LATENCY = 60
RAMP = 8
"""Tiles looked at one by one: what goes wrong at the start shows in the first few."""


@dataclass(frozen=True)
class Shape:
    """What the model needs to know about a way to cut a job. `inputs`: words (of each channel block) loaded for each tile
    of an image; `reload`: they are loaded again for each group of output blocks; `per_block`: for each output block."""

    sizes: Sequence[int]
    inputs: Sequence[int]
    boxes: Sequence[Box]
    group: int
    staged: bool
    reload: bool = False
    per_block: bool = False
    alone_in: bool = False
    alone_out: bool = False


@dataclass(frozen=True)
class Costs:
    """Cycles: of the array alone, of the read port alone, and of the layer from its first load to its last store."""

    array: int
    read: int
    all: int


def costs(job: Job, config: Config, shape: Shape) -> Costs:
    """Estimate a layer that runs alone; the memory takes or gives a beat a cycle."""
    array = config.array
    word = max(1.0, array / config.axi_bytes) if job.gather is None else 1.0
    loads = len(job.gather.passes) if job.gather else job.blocks
    tile_loads = [count * loads * word for count in shape.inputs]
    tile_work = [max(m, array) * job.k_tiles for m in shape.sizes]
    block_load = job.k_tiles * array * array / config.axi_bytes
    cached = shape.group * job.k_tiles * array <= config.weight_depth
    groups = -(-job.out_blocks // shape.group)
    weights = job.out_blocks * block_load * (1 if cached else job.images * len(shape.sizes))
    times = job.out_blocks if shape.per_block else groups if shape.reload else 1
    inputs = job.images * sum(tile_loads) * times
    work = job.images * job.out_blocks * sum(tile_work)
    rows = job.images * job.out_blocks * sum(shape.sizes)
    sfu, store = rows * array / config.sfu_lanes, rows * word * shape.staged
    alone = inputs * shape.alone_in + (sfu + store) * shape.alone_out
    start = _start(shape, tile_loads, tile_work, block_load, cached)
    drain = shape.sizes[-1] * (array / config.sfu_lanes + word * shape.staged) + DRAIN_LATENCY
    executes = job.images * job.out_blocks * len(shape.sizes) * len(shape.boxes)
    total = start + max(work, sfu, store, weights + inputs - start) + alone + drain + 4 * executes
    return Costs(int(work), int(weights + inputs), int(total))


def _start(shape: Shape, tile_loads, tile_work, block_load: float, cached: bool) -> float:
    """Cycles the array waits for loads, over the first tiles of the first group: the most by which what has to be loaded is
    ahead of what has been computed."""
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
