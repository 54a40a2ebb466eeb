"""What a layer is to the array: a `Job`, one convolution over a tensor of words.

`plain` makes one from a layer on its input as it lies in memory (`packing.py` knows other ways). A matrix product is a
1x1 convolution whose rows are the batch.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from systolith.compiler.ir import Conv, Graph
from systolith.errors import SystolithError

__all__ = [
    "Box",
    "Gather",
    "Job",
    "Pass",
    "Strides",
    "blocks_of",
    "check_layer",
    "plain",
    "touched_blocks",
    "weight_tiles",
]


@dataclass(frozen=True)
class Strides:
    """Words from one image, channel block or row of a tensor to the next; columns are neighbours."""

    image: int
    block: int
    row: int


@dataclass(frozen=True)
class Pass:
    """One gathering load: `length` bytes for lane `lane` of block `word`, from `dy` rows and `dx` bytes further on."""

    word: int
    lane: int
    length: int
    dy: int
    dx: int


@dataclass(frozen=True)
class Gather:
    """How word (row v, column x) is gathered: from source row v * row_step - top + dy, byte x * step - left + dx."""

    passes: tuple[Pass, ...]
    row_step: int
    step: int
    top: int
    left: int
    height: int
    row_bytes: int


@dataclass(frozen=True)
class Box:
    """K tiles of one EXECUTE: kernel rows, kernel columns and channel blocks as (first, count); block 0 is the first
    that the output block reads."""

    ky: tuple[int, int]
    kx: tuple[int, int]
    blocks: tuple[int, int]

    @property
    def tiles(self) -> int:
        return self.ky[1] * self.kx[1] * self.blocks[1]


@dataclass(frozen=True, eq=False)
class Job:
    """A convolution over words. `weights`: int8 [output block, ky, kx, block, input channel, output channel].

    Output block b reads `blocks` channel blocks of the input, from `firsts[b]` on, and its weights are for those: the
    whole input, or with groups what the groups of its channels touch. `firsts` ascend.

    `source` and `target` are the layouts of the input (before gathering, if there is a `gather`) and output tensors.
    """

    index: int
    layer: Conv
    zero_point: int
    images: int
    height: int
    width: int
    blocks: int
    firsts: tuple[int, ...]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    pad: tuple[int, int]
    rows: int
    cols: int
    out_blocks: int
    weights: NDArray[np.int8]
    source: Strides
    target: Strides
    gather: Gather | None = None

    @property
    def k_tiles(self) -> int:
        """Of each output block."""
        return self.kernel[0] * self.kernel[1] * self.blocks

    def reach(self, first: int, count: int) -> tuple[int, int]:
        """Channel blocks of the input, (first, count), that some neighbouring output blocks read."""
        low = self.firsts[first]
        return low, self.firsts[first + count - 1] + self.blocks - low

    @property
    def packing(self) -> str:
        """How kernel taps share words: "none", "rows" (the taps of one kernel row) or "full"."""
        return "none" if self.gather is None else "full" if self.kernel == (1, 1) else "rows"


def blocks_of(channels: int, array: int) -> int:
    """Channel blocks of a tensor."""
    return -(-channels // array)


def plain(graph: Graph, index: int, array: int) -> Job:
    """The layer on its input as it lies there; batch and kernel are folded into rows and channel blocks where that is
    only a change of strides."""
    layer = check_layer(graph.layers[index])
    batch, channels, height, width = graph.values[layer.input].dims
    _, out_channels, rows, cols = graph.values[layer.output].dims
    all_blocks, out_blocks = blocks_of(channels, array), blocks_of(out_channels, array)
    firsts, blocks = touched_blocks(out_channels, channels, layer.groups, array)
    kernel, pad, stride, dilation = layer.weights.shape[2:], layer.pads[:2], layer.stride, layer.dilation
    weights = weight_tiles(layer.weights, array, layer.groups)
    images, source = batch, Strides(all_blocks * height * width, height * width, width)
    target = Strides(out_blocks * rows * cols, rows * cols, cols)
    if kernel == (height, width) and (rows, cols) == (1, 1) and not any(layer.pads):
        # The kernel covers the input: a matrix product over block, y and x.
        blocks, kernel = blocks * height * width, (1, 1)
        firsts = tuple(first * height * width for first in firsts)
        weights = weights.transpose(0, 3, 1, 2, 4, 5).reshape(out_blocks, 1, 1, blocks, array, array)
        source = Strides(all_blocks * height * width, 1, 1)
        height = width = 1
        stride = dilation = (1, 1)
    if kernel == (1, 1) and stride == (1, 1) and not any(layer.pads) and batch > 1 and height * width < array:
        # Images too small to fill the array: the batch becomes the rows, an image one row.
        source = Strides(0, source.block, source.image)
        target = Strides(0, target.block, target.image)
        width, height, rows, cols, images = height * width, batch, batch, rows * cols, 1
    elif kernel == (1, 1) and stride == (1, 1) and not any(layer.pads) and height == 1:
        # One line of pixels, as a matrix is: better a column, which is cut into small first and last tiles.
        source, target = Strides(source.image, source.block, 1), Strides(target.image, target.block, 1)
        height, width, rows, cols = width, 1, cols, 1
    return Job(
        index,
        layer,
        graph.values[layer.input].zero_point,
        images,
        height,
        width,
        blocks,
        firsts,
        kernel,
        stride,
        dilation,
        pad,
        rows,
        cols,
        out_blocks,
        weights,
        source,
        target,
    )


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


def check_layer(layer: Conv) -> Conv:
    """The layer itself, unless the array cannot run it."""
    if max(*layer.stride, *layer.dilation) > 255:
        raise SystolithError(
            f"Layer '{layer.name}' must have strides and dilations up to 255, not {layer.stride} and {layer.dilation}"
        )
    return layer
