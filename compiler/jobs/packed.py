"""Tap packing: several kernel taps of a network input with few channels in one word, so that K tiles are full.

The load unit gathers them from pixels, so that the array sees a tensor with more channels and a smaller kernel: with
the taps of one kernel row in a word, or of the whole kernel. The cost model decides; loads take a cycle a word and
piece.
"""

from systolith.compiler.ir.graph import Conv, Graph
from systolith.compiler.jobs.array import made_size, weight_tiles
from systolith.compiler.jobs.job import Gather, GatherLoad, Job, check_window, operand_of
from systolith.compiler.layout.layout import Strides, blocks_of, layout_of, root_of
from systolith.isa import Unit, form

__all__ = ["packed", "packings"]

LOAD, SOURCE, WINDOW = form("LOAD.A"), form("CONFIG.LOAD_A.source"), form("CONFIG.LOAD_A.window")


def packings(graph: Graph, index: int, layer: Conv, array: int) -> list[Job]:
    """Every packing of a layer's taps. It needs an input of the network that nothing else reads, and no groups."""
    inputs = {port.value for port in graph.inputs}
    read = [name for other in graph.layers for name in other.inputs] + [port.value for port in graph.outputs]
    readers = sum(root_of(graph, name) == layer.input for name in read)
    _, channels, height, width = graph.values[layer.input].dims
    top, left, bottom, right = layer.pads
    fits = top + height + bottom <= LOAD["y0"].high and (left + width + right) * channels <= LOAD["x0"].high
    fits = fits and layer.stride[0] <= SOURCE["row_step"].high and layer.stride[1] * channels <= WINDOW["step"].high
    if layer.groups > 1 or layer.input not in inputs or readers != 1 or not fits or channels >= array:
        return []
    by_rows = [packed(graph, index, layer, array, rows=True)] if layer.weights.shape[3] > 1 else []
    full = [packed(graph, index, layer, array, rows=False)] if layer.weights[0, 0].size > 1 else []
    return by_rows + full


def packed(graph: Graph, index: int, layer: Conv, array: int, rows: bool) -> Job:
    """The layer on words gathered from pixels: taps of each kernel row packed (`rows`), or of the whole kernel."""
    check_window(layer)
    batch, channels, height, width = graph.values[layer.input].dims
    out_rows, cols = made_size(graph, layer)
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
    blocks, out_blocks = blocks_of(taps.shape[2], array), blocks_of(len(taps), array)
    return Job(
        index,
        layer,
        Unit.EXECUTE,
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
        Strides(height * width * channels, 0, width * channels),
        layout_of(graph, layer.output, array).strides,
        weight_tiles(taps.transpose(0, 2, 1)[..., None], array),
        gather,
        operand_of(graph, layer, array),
        layer.pool.stride if layer.pool else (1, 1),
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
                yield GatherLoad(position // array, lane, part, ky * dilation_y, dx + length - (end - position))
                position += part
