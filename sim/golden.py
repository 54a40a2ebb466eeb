"""The golden model, backend `golden`: a graph in NumPy, exact int32 sums, requantized by `systolith.numerics`."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from systolith.compiler.ir import Conv, Graph
from systolith.numerics import requantize
from systolith.sim.host import check_inputs, from_device, to_device

__all__ = ["convolve", "run", "run_values"]


def run(graph: Graph, inputs: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """Outputs by name, in shapes and types of the model. Raises SystolithError for inputs not the network's."""
    values = run_values(graph, inputs)
    return {
        port.name: from_device(
            values[port.value], port, graph.values[port.value].scale, graph.values[port.value].zero_point
        )
        for port in graph.outputs
    }


def run_values(graph: Graph, inputs: Mapping[str, NDArray]) -> dict[str, NDArray[np.int8]]:
    """Every value of the graph by name: int8 [batch, channels, height, width]."""
    check_inputs(graph.inputs, inputs)
    results = {}
    for port in graph.inputs:
        value = graph.values[port.value]
        results[port.value] = to_device(np.asarray(inputs[port.name]), port, value.scale, value.zero_point, value.dims)
    for layer in graph.layers:
        results[layer.output] = _run_layer(graph, layer, results[layer.input])
    return results


def _run_layer(graph: Graph, layer: Conv, x: NDArray[np.int8]) -> NDArray[np.int8]:
    sums = convolve(layer, x, graph.values[layer.input].zero_point)
    zero_point = graph.values[layer.output].zero_point
    y = requantize(sums, layer.scale, zero_point, layer.low, layer.high)
    return np.ascontiguousarray(np.moveaxis(y, -1, 1))


def convolve(layer: Conv, x: NDArray[np.int8], zero_point: int) -> NDArray[np.int32]:
    """Accumulators with bias, [batch, height, width, output channels], of a layer for input [batch, C, H, W].

    One float64 matrix product a kernel tap: exact, because the front end has proved that sums fit int32.
    """
    top, left, bottom, right = layer.pads
    pixels = np.pad(
        np.moveaxis(x, 1, -1).astype(np.float64) - zero_point, ((0, 0), (top, bottom), (left, right), (0, 0))
    )
    rows, columns = layer.output_size(*x.shape[2:])
    outputs, channels, kernel_rows, kernel_columns = layer.weights.shape
    outputs, sums = outputs // layer.groups, []
    for group in range(layer.groups):
        weights = layer.weights[group * outputs : (group + 1) * outputs]
        total = np.zeros((x.shape[0], rows, columns, outputs))
        for ky in range(kernel_rows):
            for kx in range(kernel_columns):
                y0, x0 = ky * layer.dilation[0], kx * layer.dilation[1]
                window = pixels[
                    :,
                    y0 : y0 + (rows - 1) * layer.stride[0] + 1 : layer.stride[0],
                    x0 : x0 + (columns - 1) * layer.stride[1] + 1 : layer.stride[1],
                    group * channels : (group + 1) * channels,
                ]
                total += window @ weights[:, :, ky, kx].T.astype(np.float64)
        sums.append(total)
    return (np.concatenate(sums, axis=-1) + layer.bias).astype(np.int32)
