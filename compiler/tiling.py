"""How a job is cut to fit the SRAMs: output tiles, groups of output blocks, K boxes, chosen by a cost model.

A plan runs: for each group of output blocks, for each image, for each output tile, for each output block of the group,
for each K box: one EXECUTE. What a loop needs again and still finds in SRAM is not loaded again, so a group of all
blocks keeps the activations and a group of one keeps the weights.
"""

import enum
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from systolith.compiler.cost import Costs, Shape, costs
from systolith.compiler.jobs import Box, Job
from systolith.config import Config
from systolith.errors import SystolithError

__all__ = ["Keep", "Plan", "Span", "choose_plan", "input_span", "whole"]

MAX_COUNT = 4095
"""Largest rows, cols and blocks of an instruction."""
MAX_KERNEL = 255


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
    """`heights` and `widths` of output tiles, output blocks in a `group`, K `boxes`, words of one staging buffer and
    how many there are, for input and output (0: not staged)."""

    heights: tuple[int, ...]
    widths: tuple[int, ...]
    group: int
    boxes: tuple[Box, ...]
    keep: Keep
    input: tuple[int, int]
    output: tuple[int, int]
    costs: Costs


def choose_plan(job: Job, config: Config, space: int, resident: bool, staged: bool) -> Plan:
    """The cheapest plan with `space` free words of activation SRAM. `resident`: the input is in SRAM; `staged`: the
    output goes to memory through a staging buffer. Raises SystolithError, naming layer and SRAM, if nothing fits."""
    found: list[Plan] = []
    useful, count = 0, -(-job.cols // min(config.acc_half, MAX_COUNT))
    while count <= job.cols and useful < 2:
        plans = list(_plans(job, config, space, resident, staged, _balanced(job.cols, count)))
        found += plans
        useful += bool(plans)
        count = max(count + 1, min(2 * count, job.cols))
    if found:
        return min(found, key=lambda plan: (plan.costs.all, plan.costs.read))
    raise SystolithError(
        f"Layer '{job.layer.name}' must have room for one pixel of input and output in activation SRAM, "
        f"not {space} words"
    )


def input_span(first: int, count: int, stride: int, pad: int, tap: tuple[int, int], dilation: int, size: int) -> Span:
    """What outputs first .. first + count - 1 read with taps (first, count) along an axis of `size` positions."""
    start = first * stride - pad + tap[0] * dilation
    end = start + (count - 1) * stride + (tap[1] - 1) * dilation + 1
    low = min(max(start, 0), size - 1)
    return Span(low, max(min(end, size), low + 1), start)


def split_kernel(job: Job, limit: int) -> tuple[Box, ...]:
    """All K tiles of an output block, in boxes of at most `limit` tiles."""
    (kernel_y, kernel_x), blocks = job.kernel, job.blocks
    taps = kernel_y * kernel_x
    columns = min(kernel_x, limit, MAX_KERNEL)
    rows = min(kernel_y, max(1, limit // columns), MAX_KERNEL) if columns == kernel_x else 1
    depth = min(blocks, max(1, limit // taps), MAX_COUNT) if rows == kernel_y else 1
    return tuple(
        Box((y, ys), (x, xs), (b, bs))
        for b, bs in _parts(blocks, depth)
        for y, ys in _parts(kernel_y, rows)
        for x, xs in _parts(kernel_x, columns)
    )


def _plans(job: Job, config: Config, space: int, resident: bool, staged: bool, widths) -> Iterator[Plan]:
    heights = list(_heights(job, config, max(widths)))
    limit = max(1, config.weight_depth // config.array // 3)
    found = [
        plan
        for keep in ([Keep.RESIDENT] if resident else [Keep.IMAGE, Keep.TILE])
        for boxes in _boxes(job, limit, 1 if resident else 8)
        for height in heights
        for plan in _groups(job, config, space, staged, height, widths, boxes, keep)
    ]
    yield from found or ([] if resident else _box_plans(job, config, space, staged, heights, widths, limit))


def _boxes(job: Job, limit: int, parts: int) -> list[tuple[Box, ...]]:
    """K in as few boxes as fit, and in up to `parts` boxes: the array starts when the first one is loaded."""
    limits = {min(limit, -(-job.k_tiles // n)) for n in (1, 2, 4, 8) if n <= parts}
    return list(dict.fromkeys(split_kernel(job, n) for n in sorted(limits, reverse=True)))


def _box_plans(job: Job, config: Config, space: int, staged: bool, heights, widths, limit: int) -> Iterator[Plan]:
    """Last resort: the input of one EXECUTE at a time, with fewer K tiles until it fits."""
    tiles = min(limit, job.k_tiles)
    while tiles:
        boxes = split_kernel(job, tiles)
        found = [
            plan for height in heights for plan in _groups(job, config, space, staged, height, widths, boxes, Keep.BOX)
        ]
        if found:
            yield from found
            return
        tiles //= 2


def _groups(job: Job, config: Config, space: int, staged: bool, heights, widths, boxes, keep: Keep) -> Iterator[Plan]:
    block_words = job.k_tiles * config.array
    fit = max(1, config.weight_depth // block_words)
    for group in sorted({1, min(job.out_blocks, max(1, fit // 2)), min(job.out_blocks, fit), job.out_blocks}):
        staging = _staging(job, space, staged, heights, widths, boxes, keep, _rounds(job, group))
        if staging is not None:
            yield _estimate(job, config, heights, widths, boxes, keep, group, *staging)


@lru_cache(maxsize=8)
def _rounds(job: Job, group: int) -> tuple[tuple[int, int], ...]:
    """The input blocks, (first, count), of each group of output blocks."""
    return tuple(job.reach(n, min(group, job.out_blocks - n)) for n in range(0, job.out_blocks, group))


def _staging(job: Job, space: int, staged: bool, heights, widths, boxes, keep: Keep, rounds):
    """Words and buffers for input and output, as many as there is room for; None if one of each does not fit."""
    height, width, depth = max(heights), max(widths), max(count for _, count in rounds)
    tile_in = {
        Keep.RESIDENT: lambda: 0,
        Keep.IMAGE: lambda: depth * job.height * job.width,
        Keep.TILE: lambda: _tile_words(job, heights, widths, [replace(whole(job), blocks=(0, depth))]),
        Keep.BOX: lambda: _tile_words(job, heights, widths, boxes),
    }[keep]()
    tile_out = height * width if staged else 0
    most = {Keep.RESIDENT: 0, Keep.IMAGE: min(job.images * len(set(rounds)), 2), Keep.TILE: 3, Keep.BOX: 3}[keep]
    for count_in, count_out in ((most, 3), (min(most, 2), 3), (min(most, 2), 2), (min(most, 2), 1), (min(most, 1), 1)):
        if count_in * tile_in + count_out * tile_out <= space:
            return (tile_in, count_in), (tile_out, count_out if staged else 0)
    return None


def whole(job: Job) -> Box:
    """All K tiles of an output block."""
    return Box((0, job.kernel[0]), (0, job.kernel[1]), (0, job.blocks))


def _tile_words(job: Job, heights, widths, boxes) -> int:
    """Input words of the largest tile and box."""
    words = []
    for box in boxes:
        rows, columns = _spans(job, heights, widths, box)
        height, width = (max(span.end - span.first for span in spans) for spans in (rows, columns))
        words.append(box.blocks[1] * height * width)
    return max(words)


def _spans(job: Job, heights, widths, box: Box | None = None) -> tuple[list[Span], list[Span]]:
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
    job: Job, config: Config, heights, widths, boxes, keep: Keep, group: int, staging_in, staging_out
) -> Plan:
    rows, columns = _spans(job, heights, widths)
    sizes = [h * w for h in heights for w in widths]
    count = len(sizes)
    if keep == Keep.RESIDENT:
        loads = [(0, 0)] * count
    elif keep == Keep.IMAGE:
        ends = [0, *(span.end for span in rows)]
        new = [max(0, ends[i + 1] - max(ends[: i + 1])) for i in range(len(heights))]
        loads = [(n, job.width) if x == 0 else (0, 0) for n in new for x in range(len(widths))]
    else:
        loads = [(row.end - row.first, column.end - column.first) for row in rows for column in columns]
    # Whole rows follow each other in memory; parts of rows, and gathered ones, come line by line.
    whole_rows = job.gather is None and (keep == Keep.IMAGE or len(widths) == 1)
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
    )
    return Plan(heights, widths, group, boxes, keep, staging_in, staging_out, costs(job, config, shape))


def _heights(job: Job, config: Config, width: int) -> Iterator[tuple[int, ...]]:
    """Row tiles: equal ones of every useful height, also with a small first (starts early) and last (drains fast)."""
    largest = min(job.rows, config.acc_half // width, MAX_COUNT)
    for height in {-(-job.rows // n) for n in range(-(-job.rows // largest), job.rows + 1)} if largest else ():
        equal = _balanced(job.rows, -(-job.rows // height))
        yield equal
        for small in {-(-config.array // width), -(-4 * config.array // width), height // 4}:
            if small and 2 * small < height and job.rows > 2 * small:
                middle = job.rows - 2 * small
                yield small, *_balanced(middle, -(-middle // height)), small


def _balanced(size: int, count: int) -> tuple[int, ...]:
    return tuple(size // count + (i < size % count) for i in range(count))


def _parts(size: int, largest: int) -> list[tuple[int, int]]:
    return _places(_balanced(size, -(-size // largest)))


def _places(sizes) -> list[tuple[int, int]]:
    """(first, count) of parts that follow each other."""
    firsts = [sum(sizes[:i]) for i in range(len(sizes))]
    return list(zip(firsts, sizes, strict=True))
