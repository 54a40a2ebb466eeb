"""Tap packing: several kernel taps of a network input with few channels in one word, so that K tiles are full.

The load unit gathers them from pixels, so that the array sees a tensor with more channels and a smaller kernel: with
the taps of one kernel row in a word, or of the whole kernel. The cost model decides; loads take a cycle a word and
piece.
"""

from systolith.compiler.ir import Conv, Graph
from systolith.compiler.jobs import Gather, Job, Pass, Strides, blocks_of, check_layer, plain, weight_tiles

__all__ = ["candidates", "packed"]


def candidates(graph: Graph, index: int, array: int) -> list[Job]:
    """Every way to run a layer, plain first. Packing needs an input of the network that nothing else reads, and no
    groups."""
    layer = graph.layers[index]
    jobs = [plain(graph, index, array)]
    if layer.groups > 1:
        return jobs
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


def packed(graph: Graph, index: int, array: int, rows: bool) -> Job:
    """The layer on words gathered from pixels: taps of each kernel row packed (`rows`), or of the whole kernel."""
    layer = check_layer(graph.layers[index])
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
        (0,) * out_blocks,
        (kernel_y, 1) if rows else (1, 1),
        (layer.stride[0], 1) if rows else (1, 1),
        (layer.dilation[0], 1) if rows else (1, 1),
        (layer.pads[0], 0) if rows else (0, 0),
        out_rows,
        cols,
        out_blocks,
        weight_tiles(taps.transpose(0, 2, 1)[..., None], array),
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
