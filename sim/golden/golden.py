"""The golden model, backend `golden`: a graph in NumPy, exact integers, requantized by `systolith.numerics`."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from systolith.compiler.ir.graph import Add, Concat, Conv, Graph, Inside, Layer, Select, SfuOp
from systolith.numerics import add, look_up, requantize
from systolith.sim.golden.convolution import convolve
from systolith.sim.golden.pooling import average_constants, reduce_windows
from systolith.sim.host.tensors import check_inputs, from_device, to_device

__all__ = ["place", "run", "run_layer", "run_values", "start", "step"]

Values = dict[str, NDArray[np.int8]]
LOWEST = -128


def run(graph: Graph, inputs: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """Outputs by name, in shapes and types of the model. Raises SystolithError for inputs not the network's."""
    values = run_values(graph, inputs)
    return {
        port.name: from_device(
            values[port.value], port, graph.values[port.value].scale, graph.values[port.value].zero_point
        )
        for port in graph.outputs
    }


def run_values(graph: Graph, inputs: Mapping[str, NDArray]) -> Values:
    """Every value of the graph by name: int8 [batch, channels, height, width]. One inside another is a view of it."""
    values = start(graph, inputs)
    for layer in graph.layers:
        step(graph, layer, values)
    return {name: place(graph, values, name) for name in graph.values}


def start(graph: Graph, inputs: Mapping[str, NDArray]) -> Values:
    """The values that are there before the first layer."""
    check_inputs(graph.inputs, inputs)
    values: Values = {}
    for port in graph.inputs:
        value = graph.values[port.value]
        x = to_device(np.asarray(inputs[port.name]), port, value.scale, value.zero_point, value.dims)
        place(graph, values, port.value)[...] = x
    return values


def step(graph: Graph, layer: Layer, values: Values) -> None:
    """Run one layer: read what it reads, and put what it makes where it belongs."""
    operands = [place(graph, values, name) for name in layer.inputs]
    place(graph, values, layer.output)[...] = run_layer(graph, layer, operands)


def place(graph: Graph, values: Values, name: str) -> NDArray[np.int8]:
    """Where a value is: an array of its own, or a view of the one it lies in."""
    if name not in values:
        value = graph.values[name]
        if value.inside is None:
            values[name] = np.empty(value.dims, np.int8)
        else:
            values[name] = _view(place(graph, values, value.inside.whole), value.inside, value.dims)
    return values[name]


def _view(whole: NDArray[np.int8], inside: Inside, dims: tuple[int, ...]) -> NDArray[np.int8]:
    batch, channels, height, width = dims
    part = whole[inside.image : inside.image + batch, inside.channel : inside.channel + channels]
    part = part[:, :, inside.top :: inside.step_y, inside.left :: inside.step_x]
    return part[:, :, :height, :width]


def run_layer(graph: Graph, layer: Layer, operands: list[NDArray[np.int8]]) -> NDArray[np.int8]:
    """What a layer makes of the values that its `inputs` name, in their order."""
    match layer:
        case Conv():
            return _convolution(graph, layer, operands)
        case SfuOp():
            return _map(layer, operands)
        case Concat():
            return np.concatenate(operands, axis=layer.axis)
        case Select():
            return operands[0][:, list(layer.channels)]


def _convolution(graph: Graph, layer: Conv, operands: list[NDArray[np.int8]]) -> NDArray[np.int8]:
    sums = convolve(layer, operands[0], graph.values[layer.input].zero_point)
    y = np.moveaxis(requantize(sums, layer.scale, layer.zero_point, layer.low, layer.high), -1, 1)
    if layer.pool:
        y = reduce_windows(y, layer.pool, "max", LOWEST).astype(np.int8)
    return _finish(layer, y, operands[-1])


def _map(layer: SfuOp, operands: list[NDArray[np.int8]]) -> NDArray[np.int8]:
    x, other = operands[0], operands[-1]
    values = reduce_windows(x, layer.window, "max" if layer.reduce == "max" else "sum", layer.pad)
    factor = np.asarray(layer.factor())
    if layer.reduce == "average":
        bias, factor = average_constants(layer, x.shape[2:], values.shape[2:])
        values = values + bias
    if layer.multiply:
        zeros = layer.multiply.zeros
        values = (values - zeros[0]) * (other.astype(np.int32) - zeros[1])
    y = requantize(values, factor, layer.zero_point, layer.low, layer.high, joint=layer.multiply is not None)
    return _finish(layer, y, other)


def _finish(layer: Conv | SfuOp, y: NDArray[np.int8], operand: NDArray[np.int8]) -> NDArray[np.int8]:
    """The steps after requantization: add, then look up."""
    if layer.add:
        y = _add(layer.add, y, operand)
    return y if layer.table is None else look_up(y, layer.table)


def _add(step: Add, y: NDArray[np.int8], operand: NDArray[np.int8]) -> NDArray[np.int8]:
    return add(y, operand, step.zeros, step.constants, step.zero_point, step.low, step.high)
