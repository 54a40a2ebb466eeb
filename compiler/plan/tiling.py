"""Tiling of a job to fit the SRAMs: output tiles, groups of output blocks, K slices (boxes), chosen by a cost model.

A plan runs: for each group of output blocks, for each image, for each output tile, for each output block of the group,
for each K box: one EXECUTE; then the SFU. A job of the SFU alone has no EXECUTE. Data that a loop needs again and still
finds in SRAM is not loaded again, so a group of all blocks keeps the activations and a group of one keeps the weights.
"""

import enum
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate, pairwise
from math import prod

from systolith.compiler.jobs.job import Job, KSlice
from systolith.compiler.plan.cost import Costs, Shape, costs
from systolith.config import Config
from systolith.errors import UnsupportedError
from systolith.isa import COUNT_BITS, EXTENT_BITS, STEP_BITS, Unit

__all__ = ["MAX_COUNT", "Keep", "Plan", "Room", "Span", "choose_plan", "input_span", "split_kernel", "whole"]

MAX_COUNT = (1 << COUNT_BITS) - 1
"""Largest rows, cols and blocks of an instruction."""
MAX_KERNEL = (1 << STEP_BITS) - 1
MAX_EXTENT = (1 << EXTENT_BITS) - 1
"""Largest height and width of an instruction's input."""
MAX_STEPS = 1 << 20
"""Most EXECUTEs, or tiles of the SFU alone, of a layer: compiling takes a minute for each 10^5 of them."""
MANY = 128
"""Tiles along an axis that are always worth looking at."""
FINE = 128
"""Every number of tiles along an axis is tried if fewer than twice as many are needed, else every so many-th."""


class Keep(enum.Enum):
    """What of the input is in activation SRAM at a time."""

    RESIDENT = "resident"
    """All of it, put there by the layer before."""
    IMAGE = "image"
    """A whole image, loaded row by row as tiles need it; with groups, the blocks that a round over the tiles needs."""
    TILE = "tile"
    """What an output tile needs in a round."""
    BOX = "box"
    """What one EXECUTE needs."""


@dataclass(frozen=True)
class Span:
    """Input positions along one axis: [first, end) that exist; `start`, maybe outside, is of output 0 and tap 0."""

    first: int
    end: int
    start: int


@dataclass(frozen=True)
class Plan:
    """`heights` and `widths` of tiles, before pooling, output blocks in a `group`, K `boxes`, words of one staging
    buffer and how many there are, for input, output and second operand (0: not staged)."""

    heights: tuple[int, ...]
    widths: tuple[int, ...]
    group: int
    boxes: tuple[KSlice, ...]
    keep: Keep
    input: tuple[int, int]
    output: tuple[int, int]
    operand: tuple[int, int]
    costs: Costs


@dataclass(frozen=True)
class Room:
    """`space`: free words of activation SRAM. `resident`: the input is in SRAM; `staged`: the output goes to memory
    through a staging buffer; `fetched`: the second operand comes from memory."""

    space: int
    resident: bool
    staged: bool
    fetched: bool = False


def choose_plan(job: Job, config: Config, room: Room, slack: float = 0.0) -> Plan:
    """The cheapest plan for the room there is. With `slack`, that part of the cost may be spent on going over a
    resident input once and in small tiles, so that other layers can overlap. Raises UnsupportedError, naming layer and
    SRAM, if nothing fits."""
    boxes = -(-job.k_tiles * config.array // config.weight_depth) if job.unit == Unit.EXECUTE else 1
    _check_steps(job, -(-job.rows * job.cols // job.capacity(config)), boxes)
    found: list[Plan] = []
    columns = 1 if job.lap else job.cols // job.pool[1]
    useful, count = 0, -(-job.cols // min(job.capacity(config), MAX_COUNT))
    while count <= columns and useful < 2:
        widths = tuple(job.cols // columns * width for width in _balanced(columns, count))
        plans = list(_plans(job, config, room, widths))
        found += plans
        useful += bool(plans)
        count = max(count + 1, min(2 * count, columns))
    if found:
        best = min(found, key=lambda plan: (plan.costs.all, plan.costs.read))
        near = [plan for plan in found if plan.costs.all <= best.costs.all * (1 + slack)]
        if room.resident and slack:
            best = min(near, key=lambda plan: (-plan.group, max(plan.heights) * max(plan.widths), plan.costs.all))
        _check_steps(job, len(best.heights) * len(best.widths), len(best.boxes))
        return best
    raise UnsupportedError(
        f"Layer '{job.layer.name}' must have room for one pixel of input and output in activation SRAM, "
        f"not {room.space} words",
        job.layer.output,
    )


def _check_steps(job: Job, tiles: int, boxes: int) -> None:
    """Refuse a layer that is cut into too many steps: before looking for the best way by how many it needs at least."""
    steps = job.images * job.out_blocks * tiles * boxes
    if steps > MAX_STEPS:
        raise UnsupportedError(
            f"Layer '{job.layer.name}' must need at most {MAX_STEPS} tiles, not {steps} on this configuration",
            job.layer.output,
        )


def input_span(first: int, count: int, stride: int, pad: int, tap: tuple[int, int], dilation: int, size: int) -> Span:
    """What outputs first .. first + count - 1 read with taps (first, count) along an axis of `size` positions."""
    start = first * stride - pad + tap[0] * dilation
    end = start + (count - 1) * stride + (tap[1] - 1) * dilation + 1
    low = min(max(start, 0), size - 1)
    return Span(low, max(min(end, size), low + 1), start)


def split_kernel(job: Job, limit: int) -> tuple[KSlice, ...]:
    """All K tiles of an output block, in boxes of at most `limit` tiles."""
    (kernel_y, kernel_x), blocks = job.kernel, job.blocks
    taps = kernel_y * kernel_x
    columns = min(kernel_x, limit, MAX_KERNEL)
    rows = min(kernel_y, max(1, limit // columns), MAX_KERNEL) if columns == kernel_x else 1
    depth = min(blocks, max(1, limit // taps), MAX_COUNT) if rows == kernel_y else 1
    return tuple(
        KSlice((y, ys), (x, xs), (b, bs))
        for b, bs in _parts(blocks, depth)
        for y, ys in _parts(kernel_y, rows)
        for x, xs in _parts(kernel_x, columns)
    )


def _plans(job: Job, config: Config, room: Room, widths) -> Iterator[Plan]:
    if _extent(job, 1, max(widths)) > MAX_EXTENT:
        return
    heights = [h for h in _heights(job, config, max(widths)) if _extent(job, 0, max(h)) <= MAX_EXTENT]
    limit = max(1, config.weight_depth // config.array // 3) if job.unit == Unit.EXECUTE else job.k_tiles
    keeps = [Keep.RESIDENT] if room.resident else [Keep.IMAGE, Keep.TILE]
    found = [
        plan
        for keep in keeps
        for boxes in _boxes(job, limit, 8 if job.unit == Unit.EXECUTE and not room.resident else 1)
        for height in heights
        for plan in _groups(job, config, room, height, widths, boxes, keep)
    ]
    only = room.resident or job.unit != Unit.EXECUTE
    yield from found or ([] if only else _box_plans(job, config, room, heights, widths, limit))


def _extent(job: Job, axis: int, outputs: int) -> int:
    """Most input positions along an axis that so many neighbouring outputs span."""
    reach = (outputs - 1) * job.stride[axis] + (job.kernel[axis] - 1) * job.dilation[axis] + 1
    return min(reach, (job.height, job.width)[axis])


def _boxes(job: Job, limit: int, parts: int) -> list[tuple[KSlice, ...]]:
    """K in as few boxes as fit, and in up to `parts` boxes: the array starts when the first one is loaded."""
    limits = {min(limit, -(-job.k_tiles // n)) for n in (1, 2, 4, 8) if n <= parts}
    return list(dict.fromkeys(split_kernel(job, n) for n in sorted(limits, reverse=True)))


def _box_plans(job: Job, config: Config, room: Room, heights, widths, limit: int) -> Iterator[Plan]:
    """Last resort: the input of one EXECUTE at a time, with fewer K tiles until it fits."""
    tiles = min(limit, job.k_tiles)
    while tiles:
        boxes = split_kernel(job, tiles)
        found = [plan for height in heights for plan in _groups(job, config, room, height, widths, boxes, Keep.BOX)]
        if found:
            yield from found
            return
        tiles //= 2


def _groups(job: Job, config: Config, room: Room, heights, widths, boxes, keep: Keep) -> Iterator[Plan]:
    block_words = sum(job.weight_words(box, config.array) for box in boxes)
    fit = max(1, config.weight_depth // max(1, block_words))
    for group in sorted({1, min(job.out_blocks, max(1, fit // 2)), min(job.out_blocks, fit), job.out_blocks}):
        staging = _staging(job, room, heights, widths, boxes, keep, _rounds(job, group))
        if staging is not None:
            yield _estimate(job, config, heights, widths, boxes, keep, group, *staging)


@lru_cache(maxsize=8)
def _rounds(job: Job, group: int) -> tuple[tuple[int, int], ...]:
    """The input blocks, (first, count), of each group of output blocks."""
    return tuple(job.reach(n, min(group, job.out_blocks - n)) for n in range(0, job.out_blocks, group))


def _staging(job: Job, room: Room, heights, widths, boxes, keep: Keep, rounds):
    """Words and buffers for input, output and operand, as many as there is room for; None if one of each does not
    fit."""
    height, width, depth = max(heights), max(widths), max(count for _, count in rounds)
    tile_in = {
        Keep.RESIDENT: lambda: 0,
        Keep.IMAGE: lambda: depth * job.height * job.width,
        Keep.TILE: lambda: _tile_words(job, heights, widths, [replace(whole(job), blocks=(0, depth))]),
        Keep.BOX: lambda: _tile_words(job, heights, widths, boxes),
    }[keep]()
    tile_out = prod(job.pooled(height, width)) if room.staged else 0
    tile_second = prod(job.operand.size(height, width)) if job.operand and room.fetched else 0
    most = {Keep.RESIDENT: 0, Keep.IMAGE: min(job.images * len(set(rounds)), 2), Keep.TILE: 3, Keep.BOX: 3}[keep]
    for count_in, count in ((most, 3), (min(most, 2), 3), (min(most, 2), 2), (min(most, 2), 1), (min(most, 1), 1)):
        if count_in * tile_in + count * (tile_out + tile_second) <= room.space:
            buffers = ((tile_in, count_in), (tile_out, count), (tile_second, count))
            return tuple((words, number if words else 0) for words, number in buffers)
    return None


def whole(job: Job) -> KSlice:
    """All K tiles of an output block."""
    return KSlice((0, job.kernel[0]), (0, job.kernel[1]), (0, job.blocks))


def _tile_words(job: Job, heights, widths, boxes) -> int:
    """Input words of the largest tile and box."""
    words = []
    for box in boxes:
        rows, columns = _spans(job, heights, widths, box)
        height, width = (max(span.end - span.first for span in spans) for spans in (rows, columns))
        words.append(box.blocks[1] * height * width)
    return max(words)


def _spans(job: Job, heights, widths, box: KSlice | None = None) -> tuple[list[Span], list[Span]]:
    """Input rows of each tile height and input columns of each tile width, for all kernel taps or those of a box."""
    ky, kx = (box.ky, box.kx) if box else ((0, job.kernel[0]), (0, job.kernel[1]))
    rows = [
        input_span(first, count, job.stride[0], job.pad[0], ky, job.dilation[0], job.height)
        for first, count in _places(heights)
    ]
    columns = [
        input_span(first, count, job.stride[1], job.pad[1], kx, job.dilation[1], job.width)
        for first, count in _places(widths)
    ]
    return rows, columns


def _estimate(
    job: Job, config: Config, heights, widths, boxes, keep: Keep, group: int, staging_in, staging_out, staging_second
) -> Plan:
    rows, columns = _spans(job, heights, widths)
    sizes = [h * w for h in heights for w in widths]
    count = len(sizes)
    if keep == Keep.RESIDENT:
        loads = [(0, 0)] * count
    elif keep == Keep.IMAGE:
        ends = list(accumulate((span.end for span in rows), max, initial=0))
        new = [end - before for before, end in pairwise(ends)]
        loads = [(n, job.width) if x == 0 else (0, 0) for n in new for x in range(len(widths))]
    else:
        loads = [(row.end - row.first, column.end - column.first) for row in rows for column in columns]
    # Whole rows follow each other in memory; parts of rows, gathered and thinned ones come line by line.
    whole_rows = job.gather is None and job.source.column == 1 and (keep == Keep.IMAGE or len(widths) == 1)
    rounds = _rounds(job, group)
    several = count * job.images > 1
    again = several if keep == Keep.TILE else job.images > 1
    loaded = job.out_blocks * job.blocks if keep == Keep.BOX else sum(n for _, n in (rounds if again else set(rounds)))
    single = staging_in[1] < 2 and (several or len(set(rounds)) > 1)
    shape = Shape(
        heights,
        widths,
        [height * width for height, width in loads],
        [min(height, 1) if whole_rows else height for height, _ in loads],
        boxes,
        group,
        job.blocks if keep == Keep.BOX else rounds[0][1],
        loaded,
        resident=keep == Keep.RESIDENT,
        staged=staging_out[0] > 0,
        alone_in=single and (keep in (Keep.TILE, Keep.BOX) or (keep == Keep.IMAGE and len(set(rounds)) > 1)),
        alone_out=staging_out[0] > 0 and staging_out[1] < 2,
        fetched=staging_second[0] > 0,
    )
    return Plan(heights, widths, group, boxes, keep, staging_in, staging_out, staging_second, costs(job, config, shape))


def _heights(job: Job, config: Config, width: int) -> Iterator[tuple[int, ...]]:
    """Row tiles: equal ones of every useful height, also with a small first (starts early) and last (drains fast).
    They are counted in rows of pools."""
    rows, width = job.rows // job.pool[0], width * job.pool[0]
    largest = min(rows, job.capacity(config) // width, MAX_COUNT // job.pool[0])
    if not largest:
        return
    least = -(-rows // largest)
    counts = range(least, min(rows, 4 * least + MANY) + 1, max(1, least // FINE))
    for height in {1, *(-(-rows // n) for n in counts)}:
        yield tuple(job.pool[0] * n for n in _balanced(rows, -(-rows // height)))
        for small in {-(-config.array // width), -(-4 * config.array // width), height // 4}:
            if small and 2 * small < height and rows > 2 * small:
                middle = rows - 2 * small
                heights = small, *_balanced(middle, -(-middle // height)), small
                yield tuple(job.pool[0] * n for n in heights)


def _balanced(size: int, count: int) -> tuple[int, ...]:
    return tuple(size // count + (i < size % count) for i in range(count))


def _parts(size: int, largest: int) -> list[tuple[int, int]]:
    return _places(_balanced(size, -(-size // largest)))


def _places(sizes) -> list[tuple[int, int]]:
    """(first, count) of parts that follow each other."""
    return list(zip(accumulate(sizes, initial=0), sizes, strict=False))
