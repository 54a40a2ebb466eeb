"""How a job is cut to fit the SRAMs: output tiles, groups of output blocks, K boxes, chosen by a cost model.

A plan runs: for each group of output blocks, for each image, for each output tile, for each output block of the group,
for each K box: one EXECUTE. What a loop needs again and still finds in SRAM is not loaded again, so a group of all blocks
keeps the activations and a group of one keeps the weights.
"""

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from systolith.compiler.jobs import Box, Job
from systolith.config import Config
from systolith.errors import SystolithError

__all__ = ["Keep", "Plan", "Span", "choose_plan", "input_span"]

MAX_COUNT = 4095
"""Largest rows, cols and blocks of an instruction."""
MAX_KERNEL = 255
LATENCY = 100
"""Cycles from a load's first address to its first word, about: what starting and draining cost beside bandwidth."""


class Keep(enum.Enum):
    """What of the input is in activation SRAM at a time."""

    RESIDENT = "resident"
    """All of it, put there by the layer before."""
    IMAGE = "image"
    """A whole image, loaded row by row as tiles need it."""
    TILE = "tile"
    """What an output tile needs."""
    BOX = "box"
    """What one EXECUTE needs."""


@dataclass(frozen=True)
class Span:
    """Input positions along one axis: [first, end) that exist, and `start`, where output 0 and tap 0 are (maybe outside)."""

    first: int
    end: int
    start: int


@dataclass(frozen=True)
class Plan:
    """`heights` and `widths` of output tiles, output blocks in a `group`, K `boxes`, words of one staging buffer and how many
    there are, for input and output (0: not staged), and the estimate: array cycles, memory read cycles, and all."""

    heights: tuple[int, ...]
    widths: tuple[int, ...]
    group: int
    boxes: tuple[Box, ...]
    keep: Keep
    input: tuple[int, int]
    output: tuple[int, int]
    array_cycles: int
    read_cycles: int
    cycles: int


def choose_plan(job: Job, config: Config, space: int, resident: bool, staged: bool) -> Plan:
    """The cheapest plan with `space` free words of activation SRAM. `resident`: the input is in SRAM; `staged`: the output
    goes to memory through a staging buffer. Raises SystolithError, naming layer and SRAM, if nothing fits."""
    found: list[Plan] = []
    useful, count = 0, -(-job.cols // min(config.acc_half, MAX_COUNT))
    while count <= job.cols and useful < 2:
        plans = list(_plans(job, config, space, resident, staged, _balanced(job.cols, count)))
        found += plans
        useful += bool(plans)
        count = max(count + 1, min(2 * count, job.cols))
    if found:
        return min(found, key=lambda plan: (plan.cycles, plan.read_cycles))
    raise SystolithError(
        f"Layer '{job.layer.name}' must have room for one pixel of input and output in activation SRAM, "
        f"not {space} words"
    )


def input_span(first: int, count: int, stride: int, pad: int, tap: tuple[int, int], dilation: int, size: int) -> Span:
    """What outputs first .. first + count - 1 read with kernel taps (first, count) along one axis of `size` positions."""
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
    boxes = split_kernel(job, limit)
    found = [
        plan
        for keep in ([Keep.RESIDENT] if resident else [Keep.IMAGE, Keep.TILE])
        for height in heights
        for plan in _groups(job, config, space, staged, height, widths, boxes, keep)
    ]
    yield from found or ([] if resident else _box_plans(job, config, space, staged, heights, widths, limit))


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
    staging = _staging(job, space, staged, heights, widths, boxes, keep)
    if staging is None:
        return
    block_words = job.k_tiles * config.array
    fit = max(1, config.weight_depth // block_words)
    for group in sorted({1, min(job.out_blocks, max(1, fit // 2)), min(job.out_blocks, fit), job.out_blocks}):
        yield _estimate(job, config, heights, widths, boxes, keep, group, *staging)


def _staging(job: Job, space: int, staged: bool, heights, widths, boxes, keep: Keep):
    """Words and buffers for input and output, as many as there is room for; None if one of each does not fit."""
    height, width = max(heights), max(widths)
    tile_in = {
        Keep.RESIDENT: lambda: 0,
        Keep.IMAGE: lambda: job.blocks * job.height * job.width,
        Keep.TILE: lambda: _tile_words(
            job, heights, widths, [Box((0, job.kernel[0]), (0, job.kernel[1]), (0, job.blocks))]
        ),
        Keep.BOX: lambda: _tile_words(job, heights, widths, boxes),
    }[keep]()
    tile_out = height * width if staged else 0
    wanted_in = {Keep.RESIDENT: 0, Keep.IMAGE: min(job.images, 2), Keep.TILE: 2, Keep.BOX: 2}[keep]
    for count_in, count_out in ((wanted_in, 3), (wanted_in, 2), (wanted_in, 1), (min(wanted_in, 1), 1)):
        if count_in * tile_in + count_out * tile_out <= space:
            return (tile_in, count_in), (tile_out, count_out)
    return None


def _tile_words(job: Job, heights, widths, boxes) -> int:
    """Input words of the largest tile and box."""
    rows = {
        box: max(_lengths(heights, job.stride[0], job.pad[0], box.ky, job.dilation[0], job.height)) for box in boxes
    }
    columns = {
        box: max(_lengths(widths, job.stride[1], job.pad[1], box.kx, job.dilation[1], job.width)) for box in boxes
    }
    return max(box.blocks[1] * rows[box] * columns[box] for box in boxes)


def _lengths(sizes, stride: int, pad: int, tap: tuple[int, int], dilation: int, size: int) -> list[int]:
    spans = [input_span(first, count, stride, pad, tap, dilation, size) for first, count in _places(sizes)]
    return [span.end - span.first for span in spans]


def _estimate(
    job: Job, config: Config, heights, widths, boxes, keep: Keep, group: int, staging_in, staging_out
) -> Plan:
    array, beat = config.array, config.axi_bytes
    sizes = [h * w for h in heights for w in widths]
    passes = -(-job.out_blocks // group)
    array_cycles = job.images * job.out_blocks * job.k_tiles * sum(max(m, array) for m in sizes)
    block_words = job.k_tiles * array
    weights = job.out_blocks * block_words + 8 * job.out_blocks
    if group * block_words > config.weight_depth:
        weights *= job.images * len(sizes)
    rows = _lengths(heights, job.stride[0], job.pad[0], (0, job.kernel[0]), job.dilation[0], job.height)
    columns = _lengths(widths, job.stride[1], job.pad[1], (0, job.kernel[1]), job.dilation[1], job.width)
    image = job.height * job.width
    inputs, first = {
        Keep.RESIDENT: (0, 0),
        Keep.IMAGE: (job.images * image * (passes if job.images > 1 else 1), rows[0] * job.width),
        Keep.TILE: (
            job.images * sum(rows) * sum(columns) * (passes if len(sizes) * job.images > 1 else 1),
            rows[0] * columns[0],
        ),
        Keep.BOX: (job.images * sum(rows) * sum(columns) * job.out_blocks, rows[0] * columns[0]),
    }[keep]
    loads = len(job.gather.passes) if job.gather else job.blocks
    load_cycles = inputs * loads * max(1, array // beat if job.gather is None else 1)
    outputs = job.images * job.out_blocks * sum(sizes)
    sfu_cycles = outputs * (array // config.sfu_lanes)
    store_cycles = outputs * array // beat if staging_out[0] else 0
    read_cycles = weights * array // beat + load_cycles
    alone_in = keep in (Keep.TILE, Keep.BOX) and staging_in[1] < 2 and len(sizes) * job.images > 1
    alone_out = staging_out[0] and staging_out[1] < 2
    serial = (load_cycles if alone_in else 0) + (store_cycles + sfu_cycles if alone_out else 0)
    tiles = job.images * job.out_blocks * len(sizes) * len(boxes)
    edges = (
        first * loads
        + boxes[0].tiles * array * array // beat
        + LATENCY
        + sizes[-1] * (array // config.sfu_lanes + (array // beat if staging_out[0] else 0))
        + 2 * tiles
    )
    cycles = max(array_cycles, read_cycles, sfu_cycles, store_cycles) + serial + edges
    return Plan(heights, widths, group, boxes, keep, staging_in, staging_out, array_cycles, read_cycles, cycles)


def _heights(job: Job, config: Config, width: int) -> Iterator[tuple[int, ...]]:
    """Row tiles: equal ones of every useful height, also with a small first (to start early) and last (to drain fast)."""
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
