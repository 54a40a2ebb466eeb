"""Fusion of SFU layers into the layer before them: the SFU then does them on the way, without a pass of its own.
 A layer that reads one value at a time is a table. It joins the convolution or SFU layer that makes its input. An
addition joins the later of two convolutions. A maximum joins a convolution if its windows do not overlap, or only
within a row. Nothing changes a result.
"""

from collections import Counter
from dataclasses import replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from systolith.compiler.ir.graph import Add, Conv, Graph, Layer, Select, SfuOp
from systolith.compiler.jobs.job import is_small
from systolith.config import Config
from systolith.numerics import look_up, requantize

__all__ = ["can_pool", "fuse", "readers_of"]

BYTES = np.arange(256, dtype=np.uint8).view(np.int8)
"""Every int8, at the place of its entry in a table."""


def fuse(graph: Graph, config: Config) -> Graph:
    """The graph with maps fused into the layers before them, and without copies that change nothing."""
    graph = _without_copies(graph)
    readers, layers, maker = readers_of(graph), [], {}
    for layer in graph.layers:
        fused = _fused(graph, layer, layers, maker, readers, config)
        if fused is None:
            maker[layer.output] = len(layers)
            layers.append(layer)
        else:
            index, joined = fused
            del maker[layers[index].output]
            maker[joined.output] = index
            layers[index] = joined
    return replace(graph, layers=tuple(layers), values=_used(graph, layers))


def _fused(
    graph: Graph, layer: Layer, layers: list[Layer], maker: dict[str, int], readers: Counter[str], config: Config
) -> tuple[int, Layer] | None:
    """(index, layer): the earlier layer that does the work of `layer` as well; None if there is no such."""
    if not isinstance(layer, SfuOp):
        return None
    for name in layer.inputs:
        index = maker.get(name)
        if index is None or readers[name] > 1 or graph.values[name].inside is not None:
            continue
        first, others = layers[index], [other for other in layer.inputs if other != name]
        if others and not all(_ready(graph, other, maker) < index for other in others):
            continue
        joined = _joined(graph, first, layer, name, config)
        if joined is not None:
            return index, joined
    return None


def _joined(graph: Graph, first: Layer, layer: SfuOp, name: str, config: Config) -> Layer | None:
    """One layer for `first`, which makes `name`, and a map of it."""
    if not isinstance(first, Conv | SfuOp):
        return None
    if layer.multiply is None and layer.add is None:
        table = _pointwise(layer)
        if layer.window.is_plain:
            return _with_table(first, table, layer.output)
        if isinstance(first, Conv) and can_pool(graph, first, layer, config):
            pooled = replace(first, pool=layer.window)
            return _with_table(pooled, table, layer.output)
        return None
    if layer.add and isinstance(first, Conv) and not (first.pool or first.add or first.table is not None):
        add = _addition(graph, layer, layer.add, name)
        return add and replace(first, output=layer.output, add=add, table=layer.table)
    return None


def _with_table(first: Conv | SfuOp, table: NDArray[np.int8], output: str) -> Conv | SfuOp:
    """The layer with a table after it; one that only clamps becomes a clamp, where no other table is."""
    if first.table is not None:
        table = look_up(first.table, table)
    elif (table == np.clip(BYTES, table.min(), table.max())).all():
        stage = first.add or first
        # Clamping commutes with the maximum of a fused pool; numbers outside the old clamp do not occur.
        low, high = np.clip((stage.low, stage.high), table.min(), table.max())
        limits = {"low": int(low), "high": int(high)}
        if first.add:
            return replace(first, output=output, add=replace(first.add, **limits))
        return replace(first, output=output, **limits)
    return replace(first, output=output, table=None if (table == BYTES).all() else table)


def can_pool(graph: Graph, first: Conv, layer: SfuOp, config: Config) -> bool:
    """Whether a convolution can take the maximum over the windows of `layer` as it leaves the accumulators, of
    which each half must hold at least two windows, or whole rows where windows of one row overlap."""
    window = layer.window
    half = min(config.acc_half, config.dw_half) if config.dw_taps else config.acc_half
    if 2 * prod(window.stride) > half or not is_small(window):
        return False
    whole = window.reach[0] == window.stride[0] == 1 and _fits_rows(graph, first, config, half)
    apart = not window.lap[0] and (not window.lap[1] or whole)
    rising = first.table is None or bool((np.diff(np.roll(first.table, 128).astype(int)) >= 0).all())
    return layer.reduce == "max" and apart and rising and not (any(window.pads) or first.pool or first.add)


def _fits_rows(graph: Graph, first: Conv, config: Config, half: int) -> bool:
    """Whether a convolution can be made in tiles of whole rows: half of the accumulators holds one, and half of the
    activation SRAM the input of one."""
    width, cols = graph.values[first.input].dims[3], graph.values[first.output].dims[3]
    kernel_y = first.weights.shape[2]
    return cols <= half and kernel_y * width + cols <= config.act_depth // 2


def _addition(graph: Graph, layer: SfuOp, add: Add, name: str) -> Add | None:
    """The addition of a map as that of the layer that makes `name`, one of its two operands."""
    if not layer.window.is_plain or (_requantized(layer) != BYTES).any():
        return None
    if layer.input == name:
        return None if add.operand == name else add
    if graph.values[name].dims != graph.values[layer.input].dims:
        return None
    (zero_a, zero_b), (first, second, shift) = add.zeros, add.constants
    return replace(add, operand=layer.input, zeros=(zero_b, zero_a), constants=(second, first, shift))


def _requantized(layer: SfuOp) -> NDArray[np.int8]:
    """What each int8 becomes by the requantization of a map of single values."""
    values = BYTES.astype(np.int32) - (layer.x_zero if layer.reduce == "average" else 0)
    return requantize(values, np.asarray(layer.factor()), layer.zero_point, layer.low, layer.high)


def _pointwise(layer: SfuOp) -> NDArray[np.int8]:
    """What each reduced int8 becomes by a map without a second operand, as a table."""
    values = _requantized(layer)
    return values if layer.table is None else look_up(values, layer.table)


def _without_copies(graph: Graph) -> Graph:
    """The graph without maps that copy a value to one that is the same in all but its name."""
    names: dict[str, str] = {}
    wholes = {value.inside.whole for value in graph.values.values() if value.inside is not None}
    inputs, outputs = ({port.value for port in ports} for ports in (graph.inputs, graph.outputs))
    layers = []
    for layer in graph.layers:
        layer = _renamed(layer, names)
        if isinstance(layer, SfuOp) and _is_copy(graph, layer) and layer.output not in wholes:
            source = graph.values[layer.input]
            if layer.output not in outputs or (source.inside is None and source.name not in inputs | outputs):
                names[layer.output] = layer.input
                continue
        layers.append(layer)
    ports = tuple(replace(port, value=names.get(port.value, port.value)) for port in graph.outputs)
    return replace(graph, layers=tuple(layers), outputs=ports)


def _is_copy(graph: Graph, layer: SfuOp) -> bool:
    source, target = graph.values[layer.input], graph.values[layer.output]
    same = replace(source, name=target.name, inside=None) == target
    plain = layer.window.is_plain and layer.multiply is None and layer.add is None
    return same and plain and bool((_pointwise(layer) == BYTES).all())


def _renamed(layer: Layer, names: dict[str, str]) -> Layer:
    """The layer reading values by their new names."""
    if not any(name in names for name in layer.inputs):
        return layer
    if not isinstance(layer, Conv | SfuOp | Select):
        return replace(layer, inputs=tuple(names.get(name, name) for name in layer.inputs))
    changed = {"input": names.get(layer.input, layer.input)}
    for stage in ("add", "multiply"):
        operand = getattr(layer, stage, None)
        if operand is not None:
            changed[stage] = replace(operand, operand=names.get(operand.operand, operand.operand))
    return replace(layer, **changed)


def readers_of(graph: Graph) -> Counter[str]:
    """How often each value is read: by layers, as an output, or by what lies inside it."""
    readers = Counter(name for layer in graph.layers for name in layer.inputs)
    readers.update(port.value for port in graph.outputs)
    readers.update(value.inside.whole for value in graph.values.values() if value.inside is not None)
    return readers


def _ready(graph: Graph, name: str, maker: dict[str, int]) -> int:
    """Index of the layer after which a value is there, -1 for a network input."""
    if name in maker:
        return maker[name]
    value = graph.values[name]
    parts = [other for other in graph.values.values() if other.inside is not None and other.inside.whole == name]
    written = [_ready(graph, part.name, maker) for part in parts if part.name in maker]
    if written or value.inside is None:
        return max(written, default=-1)
    return _ready(graph, value.inside.whole, maker)


def _used(graph: Graph, layers: list[Layer]):
    """The values that some layer or port still names, or that those lie inside."""
    names = {name for layer in layers for name in (*layer.inputs, layer.output)}
    names |= {port.value for port in (*graph.inputs, *graph.outputs)}
    for name in list(names):
        inside = graph.values[name].inside
        while inside is not None:
            names.add(inside.whole)
            inside = graph.values[inside.whole].inside
    return {name: value for name, value in graph.values.items() if name in names}
