"""Separation of a maximum over overlapping windows into two steps: along rows, then along columns.
 The first step joins the convolutions before it, also through a concatenation: it reads values that leave the
accumulators anyway. The second step reads a column of each window, of a tensor that is narrower by the stride. Where
nothing can be joined, only windows of which two steps read less are separated. Nothing changes a result.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from systolith.compiler.ir.graph import Concat, Conv, Graph, Layer, SfuOp, Value, unused
from systolith.compiler.jobs.job import is_small
from systolith.compiler.passes.fuse import can_pool, fuse, readers_of
from systolith.config import Config

__all__ = ["separate"]


def separate(graph: Graph, config: Config) -> Graph:
    """The graph with maxima in two steps where that is less work, the first one fused."""
    readers, makers = readers_of(graph), {layer.output: layer for layer in graph.layers}
    values, layers = dict(graph.values), list(graph.layers)
    for layer in graph.layers:
        if not isinstance(layer, SfuOp) or not _overlaps(layer):
            continue
        concat = _concatenation(layer, makers, readers)
        joined = concat.inputs if concat else (layer.input,)
        stem = f"{layer.output}.rows"
        rows = [_along_rows(graph, layer, name, unused(f"{stem}{i}", values)) for i, name in enumerate(joined)]
        if not all(readers[step.input] == 1 and _joins(graph, step, makers, config) for step, _ in rows):
            if not _reads_less(layer):
                continue
            concat, rows = None, [_along_rows(graph, layer, layer.input, unused(stem, values))]
        steps: list[Layer] = [step for step, _ in rows]
        values |= {value.name: value for _, value in rows}
        if concat:
            whole = _narrow(graph, layer, concat.output, unused(stem, values))
            values[whole.name] = whole
            layers.remove(concat)
            steps.append(replace(concat, inputs=tuple(step.output for step in steps), output=whole.name))
        index = layers.index(layer)
        layers[index : index + 1] = [*steps, _along_columns(layer, steps[-1].output)]
    if len(values) == len(graph.values):
        return graph
    return fuse(replace(graph, layers=tuple(layers), values=values), config)


def _overlaps(layer: SfuOp) -> bool:
    """A maximum over windows of several rows and columns that have some in common, and that the SFU can run."""
    window = layer.window
    several = min(window.kernel) > 1 and is_small(window)
    return layer.reduce == "max" and not layer.multiply and not layer.add and any(window.lap) and several


def _concatenation(layer: SfuOp, makers: Mapping[str, Layer], readers: Counter[str]) -> Concat | None:
    """What concatenates channels for this layer alone."""
    source = makers.get(layer.input)
    return source if isinstance(source, Concat) and source.axis == 1 and readers[source.output] == 1 else None


def _joins(graph: Graph, step: SfuOp, makers: Mapping[str, Layer], config: Config) -> bool:
    """Whether a convolution that makes the input of the step can do it as well."""
    maker, inside = makers.get(step.input), graph.values[step.input].inside
    return isinstance(maker, Conv) and inside is None and can_pool(graph, maker, step, config)


def _reads_less(layer: SfuOp) -> bool:
    """Whether two steps read fewer values than one."""
    (kernel_y, kernel_x), (stride_y, _) = layer.window.kernel, layer.window.stride
    return kernel_x * stride_y + kernel_y < kernel_x * kernel_y


def _along_rows(graph: Graph, layer: SfuOp, name: str, output: str) -> tuple[SfuOp, Value]:
    """The first step, the maximum over the columns of windows of value `name`, each row for itself; what it makes."""
    window, (_, left, _, right) = layer.window, layer.window.pads
    across = replace(
        window,
        kernel=(1, window.kernel[1]),
        stride=(1, window.stride[1]),
        dilation=(1, window.dilation[1]),
        pads=(0, left, 0, right),
    )
    return SfuOp(output, layer.op, name, output, across, pad=layer.pad), _narrow(graph, layer, name, output)


def _along_columns(layer: SfuOp, name: str) -> SfuOp:
    """The second step, on value `name`; with what else the layer does."""
    window, (top, _, bottom, _) = layer.window, layer.window.pads
    down = replace(
        window,
        kernel=(window.kernel[0], 1),
        stride=(window.stride[0], 1),
        dilation=(window.dilation[0], 1),
        pads=(top, 0, bottom, 0),
    )
    return replace(layer, input=name, window=down)


def _narrow(graph: Graph, layer: SfuOp, name: str, output: str) -> Value:
    """A value of the first step: as many columns as the output of the layer, all rows of value `name`."""
    value, (*_, cols) = graph.values[name], graph.values[layer.output].dims
    return replace(value, name=output, dims=(*value.dims[:3], cols), inside=None)
