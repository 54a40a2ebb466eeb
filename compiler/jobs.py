"""What a layer is to the array: a `Job`, one convolution over a tensor of words, and the ways to make one from a layer.

`plain` keeps the tensor as it lies in memory. `packed` puts several kernel taps of a network input with few channels
into one word, so that a K tile does not feed mostly zeros. A matrix product is a 1x1 convolution whose rows are the
batch.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from systolith.compiler.ir import Conv, Graph
from systolith.errors import SystolithError

__all__ = ["Box", "Gather", "Job", "Pass", "Strides", "blocks_of", "candidates", "packed", "plain"]


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
    """K tiles of one EXECUTE: kernel rows, kernel columns and channel blocks as (first, count)."""

    ky: tuple[int, int]
    kx: tuple[int, int]
    blocks: tuple[int, int]

    @property
    def tiles(self) -> int:
        return self.ky[1] * self.kx[1] * self.blocks[1]


@dataclass(frozen=True, eq=False)
class Job:
    """A convolution over words. `weights`: int8 [output block, ky, kx, block, input channel, output channel].

    `source` and `target` are the layouts of the input (before gathering, if there is a `gather`) and output tensors.
    """

    index: int
    layer: Conv
    zero_point: int
    images: int
    height: int
    width: int
    blocks: int
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
        return self.kernel[0] * self.kernel[1] * self.blocks

    @property
    def packing(self) -> str:
        """How kernel taps share words: "none", "rows" (the taps of one kernel row) or "full"."""
        return "none" if self.gather is None else "full" if self.kernel == (1, 1) else "rows"


def blocks_of(channels: int, array: int) -> int:
    """Channel blocks of a tensor."""
    return -(-channels // array)


def candidates(graph: Graph, index: int, array: int) -> list[Job]:
    """Every way to run a layer, plain first. Packing needs an input of the network that nothing else reads."""
    layer = graph.layers[index]
    jobs = [plain(graph, index, array)]
    inputs = {port.value for port in graph.inputs}
    readers = sum(other.input == layer.input for other in graph.layers) + sum(
        p.value == layer.input for p in graph.outputs
    )
    _, channels, _, width = graph.values[layer.input].dims
    fits = channels < array and width * channels < 1 << 15 and layer.stride[1] * channels < 1 << 12
    if layer.input in inputs and readers == 1 and fits and layer.stride[0] < 64 and layer.weights.shape[3] > 1:
        jobs.append(packed(graph, index, array, rows=True))
    if layer.input in inputs and readers == 1 and fits and layer.stride[0] < 64 and layer.weights[0, 0].size > 1:
        jobs.append(packed(graph, index, array, rows=False))
    return jobs


def plain(graph: Graph, index: int, array: int) -> Job:
    """The layer on its input as it lies there; batch and kernel are folded into rows and channel blocks where that is
    only a change of strides."""
    layer = _checked(graph.layers[index])
    batch, channels, height, width = graph.values[layer.input].dims
    _, out_channels, rows, cols = graph.values[layer.output].dims
    blocks, out_blocks = blocks_of(channels, array), blocks_of(out_channels, array)
    kernel, pad, stride, dilation = layer.weights.shape[2:], layer.pads[:2], layer.stride, layer.dilation
    weights = _tiles(layer.weights, array)
    images, source = batch, Strides(blocks * height * width, height * width, width)
    target = Strides(out_blocks * rows * cols, rows * cols, cols)
    if kernel == (height, width) and (rows, cols) == (1, 1) and not any(layer.pads):
        # The kernel covers the input: a matrix product over block, y and x.
        blocks, kernel = blocks * height * width, (1, 1)
        weights = weights.transpose(0, 3, 1, 2, 4, 5).reshape(out_blocks, 1, 1, blocks, array, array)
        height = width = 1
        stride = dilation = (1, 1)
        source = Strides(blocks, 1, 1)
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


def packed(graph: Graph, index: int, array: int, rows: bool) -> Job:
    """The layer on words gathered from pixels: taps of each kernel row packed (`rows`), or of the whole kernel."""
    layer = _checked(graph.layers[index])
    batch, channels, height, width = graph.values[layer.input].dims
    _, out_channels, out_rows, cols = graph.values[layer.output].dims
    kernel_y, kernel_x = layer.weights.shape[2:]
    taps = layer.weights.transpose(0, 2, 3, 1).reshape(len(layer.weights), kernel_y, kernel_x * channels)
    if not rows:
        taps = taps.reshape(len(taps), 1, -1)
    passes = tuple(_passes(layer, channels, 1 if rows else kernel_y, array))
    gather = Gather(
        passes,
        1 if rows else layer.stride[0],
        layer.stride[1] * channels,
        0 if rows else layer.pads[0],
        layer.pads[1] * channels,
        height,
        width * channels,
    )
    blocks, out_blocks = blocks_of(taps.shape[2], array), blocks_of(out_channels, array)
    return Job(
        index,
        layer,
        graph.values[layer.input].zero_point,
        batch,
        height if rows else out_rows,
        cols,
        blocks,
        (kernel_y, 1) if rows else (1, 1),
        (layer.stride[0], 1) if rows else (1, 1),
        (layer.dilation[0], 1) if rows else (1, 1),
        (layer.pads[0], 0) if rows else (0, 0),
        out_rows,
        cols,
        out_blocks,
        _tiles(taps.transpose(0, 2, 1)[..., None], array),
        Strides(height * width * channels, 0, width * channels),
        Strides(out_blocks * out_rows * cols, out_rows * cols, cols),
        gather,
    )


def _passes(layer: Conv, channels: int, kernel_y: int, array: int):
    """Segments of neighbouring bytes, one after the other, cut where words end."""
    kernel_x, (dilation_y, dilation_x) = layer.weights.shape[3], layer.dilation
    runs = (
        [(0, kernel_x * channels)]
        if dilation_x == 1
        else [(kx * dilation_x * channels, channels) for kx in range(kernel_x)]
    )
    position = 0
    for ky in range(kernel_y):
        for dx, length in runs:
            end = position + length
            while position < end:
                lane = position % array
                part = min(array - lane, end - position)
                yield Pass(position // array, lane, part, ky * dilation_y, dx + length - (end - position))
                position += part


def _tiles(weights: NDArray[np.int8], array: int) -> NDArray[np.int8]:
    """[O, C, ky, kx] -> [output block, ky, kx, block, input channel, output channel], zero-filled."""
    out_channels, channels, kernel_y, kernel_x = weights.shape
    out_blocks, blocks = blocks_of(out_channels, array), blocks_of(channels, array)
    full = np.zeros((out_blocks * array, blocks * array, kernel_y, kernel_x), np.int8)
    full[:out_channels, :channels] = weights
    return full.reshape(out_blocks, array, blocks, array, kernel_y, kernel_x).transpose(0, 4, 5, 2, 3, 1)


def _checked(layer: Conv) -> Conv:
    if layer.groups != 1:
        raise SystolithError(f"Layer '{layer.name}' must have groups 1, not {layer.groups}")
    if max(*layer.stride, *layer.dilation) > 255:
        raise SystolithError(
            f"Layer '{layer.name}' must have strides and dilations up to 255, not {layer.stride} and {layer.dilation}"
        )
    return layer
