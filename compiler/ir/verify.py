"""Verification of a graph between passes: `verify(graph)` raises SystolithError that names the layer or tensor."""

from collections import defaultdict
from math import prod

from systolith.compiler.ir.graph import Add, Concat, Conv, Dims, Graph, Layer, Multiply, Select, SfuOp, Value
from systolith.errors import SystolithError
from systolith.program_rules import LARGEST, LARGEST_VALUES

__all__ = ["output_dims", "verify"]

CHANNELS = 1 << 21
"""Channels of a tensor: passes have a list of them."""


def verify(graph: Graph) -> Graph:
    """The graph itself, if every layer reads what is there and writes what its shapes say."""
    for value in graph.values.values():
        if prod(value.dims) > LARGEST or value.dims[1] > CHANNELS:
            raise SystolithError(
                f"Tensor '{value.name}' must have at most {LARGEST} elements, and {CHANNELS} channels, not {value.dims}"
            )
        _check_inside(graph, value)
    values = sum(prod(graph.values[port.value].dims) for port in (*graph.inputs, *graph.outputs))
    if values > LARGEST_VALUES:
        raise SystolithError(
            f"Graph '{graph.name}': inputs and outputs must have at most {LARGEST_VALUES} elements together, "
            f"not {values}"
        )
    known = {port.value for port in graph.inputs}
    parts: dict[str, int] = defaultdict(int)
    for layer in graph.layers:
        for name in layer.inputs:
            if not _is_known(graph, name, known):
                raise SystolithError(f"Layer '{layer.name}' must read a value made before it, not '{name}'")
        expected = output_dims(graph, layer)
        output = graph.values[layer.output]
        if output.dims != expected or min(expected) < 1:
            raise SystolithError(f"Layer '{layer.name}' must make {expected}, not {output.dims}")
        if output.name in known:
            raise SystolithError(f"Layer '{layer.name}' must make a value of its own, not '{output.name}' again")
        known.add(output.name)
        while output.inside is not None:
            whole = graph.values[output.inside.whole]
            parts[whole.name] += prod(output.dims)
            if parts[whole.name] < prod(whole.dims):
                break
            known.add(whole.name)
            output = whole
    for port in graph.outputs:
        if not _is_known(graph, port.value, known):
            raise SystolithError(f"Output '{port.name}' must be made by a layer, not '{port.value}'")
    return graph


def output_dims(graph: Graph, layer: Layer) -> Dims:
    """Dims of what a layer makes. Raises SystolithError if its inputs do not fit it."""
    match layer:
        case Conv():
            return _conv_dims(graph, layer)
        case SfuOp():
            batch, channels, height, width = graph.values[layer.input].dims
            dims = batch, channels, *layer.window.output_size(height, width)
            for operand in (layer.multiply, layer.add):
                _check_operand(graph, layer, operand, dims)
            if layer.multiply and layer.add:
                raise SystolithError(f"Layer '{layer.name}' must have one second operand, not two")
            return dims
        case Concat():
            return _concat_dims(graph, layer)
        case Select():
            batch, channels, height, width = graph.values[layer.input].dims
            if not all(0 <= channel < channels for channel in layer.channels):
                raise SystolithError(f"Layer '{layer.name}' must select from {channels} channels, not {layer.channels}")
            return batch, len(layer.channels), height, width


def _conv_dims(graph: Graph, layer: Conv) -> Dims:
    batch, channels, height, width = graph.values[layer.input].dims
    if layer.weights.shape[1] * layer.groups != channels:
        raise SystolithError(
            f"Layer '{layer.name}' must have weights for {channels} channels, "
            f"not {layer.weights.shape[1]} x {layer.groups} groups"
        )
    if layer.weights.shape[0] % layer.groups:
        raise SystolithError(
            f"Layer '{layer.name}' must have output channels that {layer.groups} groups divide, "
            f"not {layer.weights.shape[0]}"
        )
    rows, cols = layer.output_size(height, width)
    if layer.pool:
        rows, cols = layer.pool.output_size(rows, cols)
    if layer.pool and layer.add:
        raise SystolithError(f"Layer '{layer.name}' must have a fused pool or a fused addition, not both")
    dims = batch, layer.weights.shape[0], rows, cols
    _check_operand(graph, layer, layer.add, dims)
    return dims


def _concat_dims(graph: Graph, layer: Concat) -> Dims:
    shapes = [list(graph.values[name].dims) for name in layer.inputs]
    total = sum(shape[layer.axis] for shape in shapes)
    for shape in shapes:
        shape[layer.axis] = total
    if any(shape != shapes[0] for shape in shapes):
        raise SystolithError(f"Layer '{layer.name}' must have inputs that agree in all axes but {layer.axis}")
    batch, channels, height, width = shapes[0]
    return batch, channels, height, width


def _check_operand(graph: Graph, layer: Layer, operand: Add | Multiply | None, dims: Dims) -> None:
    if operand is None:
        return
    found = graph.values[operand.operand].dims
    if found[:2] != dims[:2] or any(a not in (1, b) for a, b in zip(found[2:], dims[2:], strict=True)):
        raise SystolithError(f"Layer '{layer.name}' must have a second operand that fits {dims}, not {found}")


def _check_inside(graph: Graph, value: Value) -> None:
    if value.inside is None:
        return
    inside = value.inside
    whole = graph.values[inside.whole]
    starts = inside.image, inside.channel, inside.top, inside.left
    steps = 1, 1, inside.step_y, inside.step_x
    for start, step, size, limit in zip(starts, steps, value.dims, whole.dims, strict=True):
        if not 0 <= start <= start + (size - 1) * step < limit:
            raise SystolithError(f"Tensor '{value.name}' must lie inside '{whole.name}' {whole.dims}, not at {inside}")


def _is_known(graph: Graph, name: str, known: set[str]) -> bool:
    """Whether the value, or one that it lies in, is there."""
    value = graph.values[name]
    return name in known or (value.inside is not None and _is_known(graph, value.inside.whole, known))
