"""Convolutions on the array: `plain` makes the job of a layer on its input as it lies in memory.

`packed.py` has the other ways. A matrix product is a 1x1 convolution whose rows are the batch.
"""

import numpy as np
from numpy.typing import NDArray

from systolith.compiler.ir.graph import Conv, Graph
from systolith.compiler.jobs.job import Job, check_window, input_strides, operand_of
from systolith.compiler.jobs.merge_axes import Folded, fold
from systolith.compiler.layout.layout import Strides, blocks_of, layout_of
from systolith.errors import SystolithError
from systolith.isa import Unit

__all__ = ["made_size", "plain", "touched_blocks", "weight_tiles"]


def plain(graph: Graph, index: int, layer: Conv, array: int) -> Job:
    """The layer on its input as it lies there; batch and kernel are folded into rows and channel blocks where that is
    only a change of strides."""
    check_window(layer)
    batch, channels, height, width = graph.values[layer.input].dims
    out_channels = len(layer.weights)
    rows, cols = made_size(graph, layer)
    out_blocks = blocks_of(out_channels, array)
    firsts, blocks = touched_blocks(out_channels, channels, layer.groups, array)
    kernel, pad, stride, dilation = layer.weights.shape[2:], layer.pads[:2], layer.stride, layer.dilation
    weights = weight_tiles(layer.weights, array, layer.groups)
    source, target = input_strides(graph, layer, array), layout_of(graph, layer.output, array).strides
    packed = source.row == width and source.block == height * width
    if kernel == (height, width) and (rows, cols) == (1, 1) and not any(layer.pads) and packed:
        # The kernel covers the input: a matrix product over block, y and x.
        blocks, kernel = blocks * height * width, (1, 1)
        firsts = tuple(first * height * width for first in firsts)
        weights = weights.transpose(0, 3, 1, 2, 4, 5).reshape(out_blocks, 1, 1, blocks, array, array)
        source = Strides(source.image, 1, 1)
        height = width = 1
        stride = dilation = (1, 1)
    shape = Folded(batch, height, width, rows, cols, source, target, operand_of(graph, layer, array))
    if kernel == (1, 1) and stride == (1, 1) and not any(layer.pads) and layer.pool is None:
        shape = fold(shape, array)
    return Job(
        index,
        layer,
        Unit.EXECUTE,
        graph.values[layer.input].zero_point,
        shape.images,
        shape.height,
        shape.width,
        blocks,
        firsts,
        kernel,
        stride,
        dilation,
        pad,
        shape.rows,
        shape.cols,
        out_blocks,
        shape.source,
        shape.target,
        weights,
        operand=shape.operand,
        pool=layer.pool.stride if layer.pool else (1, 1),
    )


def made_size(graph: Graph, layer: Conv) -> tuple[int, int]:
    """Rows and columns that have to be made: with a pool a whole number of its strides, and what the last window reads
    beyond that. Raises SystolithError for a pool that is padded, or whose windows overlap in other rows."""
    _, _, rows, cols = graph.values[layer.output].dims
    pool = layer.pool
    if pool is None:
        return rows, cols
    if pool.lap[0] or (pool.lap[1] and pool.stride[0] > 1) or any(pool.pads):
        raise SystolithError(f"Layer '{layer.name}' must have a fused pool of windows side by side, not {pool}")
    return rows * pool.stride[0], cols * pool.stride[1] + pool.lap[1]


def touched_blocks(out_channels: int, channels: int, groups: int, array: int) -> tuple[tuple[int, ...], int]:
    """Channel blocks of the input that hold the groups of each output block: the first for each, and how many.

    The count is one for all, the largest; ranges that need fewer go on, or begin earlier at the end of the input.
    """
    outputs, inputs = out_channels // groups, channels // groups
    spans = []
    for low in range(0, out_channels, array):
        high = min(low + array, out_channels) - 1
        spans.append((low // outputs * inputs // array, blocks_of((high // outputs + 1) * inputs, array)))
    count = max(end - first for first, end in spans)
    return tuple(min(first, blocks_of(channels, array) - count) for first, _ in spans), count


def weight_tiles(weights: NDArray[np.int8], array: int, groups: int = 1) -> NDArray[np.int8]:
    """[O, C / groups, ky, kx] -> [output block, ky, kx, touched block, input channel, output channel], zero-filled."""
    out_channels, channels, kernel_y, kernel_x = weights.shape
    out_blocks = blocks_of(out_channels, array)
    firsts, blocks = touched_blocks(out_channels, channels * groups, groups, array)
    full = np.zeros((out_blocks * array, blocks * array, kernel_y, kernel_x), np.int8)
    for channel in range(out_channels):
        start = channel * groups // out_channels * channels - firsts[channel // array] * array
        full[channel, start : start + channels] = weights[channel]
    return full.reshape(out_blocks, array, blocks, array, kernel_y, kernel_x).transpose(0, 4, 5, 2, 3, 1)
