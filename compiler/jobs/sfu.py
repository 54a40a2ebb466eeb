"""Layers of the SFU alone: `sfu_job` makes the job, `regions` the parts of a tile that share a parameter word."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from systolith.compiler.ir.graph import Graph, SfuOp
from systolith.compiler.jobs.job import LARGEST_STEP, Job, check_window, input_strides, operand_of
from systolith.compiler.jobs.merge_axes import Folded, fold
from systolith.compiler.layout.layout import blocks_of, layout_of
from systolith.errors import UnsupportedError
from systolith.isa import Unit

__all__ = ["Region", "regions", "sfu_job"]


@dataclass(frozen=True)
class Region:
    """Outputs of a tile, (first, count) along each axis, with the bias and scale they all have."""

    rows: tuple[int, int]
    cols: tuple[int, int]
    bias: int
    scale: np.float32


def sfu_job(graph: Graph, index: int, layer: SfuOp, array: int) -> Job:
    """The layer as a job: every output block reads the same block of the input."""
    check_window(layer)
    window = layer.window
    if max(window.kernel) > LARGEST_STEP:
        raise UnsupportedError(
            f"Layer '{layer.name}' must have a window of up to {LARGEST_STEP} x {LARGEST_STEP}, not {window.kernel}",
            layer.output,
        )
    images, channels, height, width = graph.values[layer.input].dims
    _, _, rows, cols = graph.values[layer.output].dims
    blocks = blocks_of(channels, array)
    source, target = input_strides(graph, layer, array), layout_of(graph, layer.output, array).strides
    shape = Folded(images, height, width, rows, cols, source, target, operand_of(graph, layer, array))
    if window.is_plain:
        shape = fold(shape, array)
    return Job(
        index,
        layer,
        Unit.SFU,
        layer.pad,
        shape.images,
        shape.height,
        shape.width,
        1,
        tuple(range(blocks)),
        window.kernel,
        window.stride,
        window.dilation,
        window.pads[:2],
        shape.rows,
        shape.cols,
        blocks,
        shape.source,
        shape.target,
        operand=shape.operand,
    )


def regions(job: Job, layer: SfuOp, rows: tuple[int, int], cols: tuple[int, int]) -> Iterator[Region]:
    """A tile, rows and cols (first, count), in rectangles that need one parameter word each: averages count fewer
    positions at borders."""
    if layer.reduce != "average":
        yield Region((0, rows[1]), (0, cols[1]), 0, layer.factor())
        return
    top, left, bottom, right = layer.counted or (0, 0, 0, 0)
    across = list(_runs(job, 1, cols, job.width, left, right))
    for y, ys, (inside_y, counted_y) in _runs(job, 0, rows, job.height, top, bottom):
        for x, xs, (inside_x, counted_x) in across:
            count = counted_y * counted_x if layer.counted else inside_y * inside_x
            yield Region((y, ys), (x, xs), -layer.x_zero * inside_y * inside_x, layer.factor(count))


def _runs(job: Job, axis: int, part: tuple[int, int], size: int, before: int, after: int):
    """Neighbouring outputs of equal counts along an axis: (first, count, (positions inside, positions counted))."""

    def counts(output: int) -> tuple[int, int]:
        start = output * job.stride[axis] - job.pad[axis]
        positions = range(start, start + job.kernel[axis] * job.dilation[axis], job.dilation[axis])
        return sum(0 <= p < size for p in positions), sum(-before <= p < size + after for p in positions)

    for found, run in groupby(range(sum(part))[part[0] :], counts):
        outputs = list(run)
        yield outputs[0] - part[0], len(outputs), found
