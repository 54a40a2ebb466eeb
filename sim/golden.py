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

    A matrix product of floats for each kernel tap, of a type that holds its sums exactly; they are added as int32,
    which the front end has proved to be enough.
    """
    outputs, channels, kernel_rows, kernel_columns = layer.weights.shape
    exact = np.float32 if channels * 255 * 128 < 1 << 24 else np.float64
    top, left, bottom, right = layer.pads
    pixels = np.moveaxis(x, 1, -1).astype(exact) - exact(zero_point)
    pixels = np.pad(pixels, ((0, 0), (top, bottom), (left, right), (0, 0)))
    size = (x.shape[0], *layer.output_size(*x.shape[2:]))
    outputs, groups = outputs // layer.groups, []
    for group in range(layer.groups):
        weights = layer.weights[group * outputs : (group + 1) * outputs].astype(exact)
        inputs = pixels[..., group * channels : (group + 1) * channels]
        sums = np.zeros((np.prod(size), outputs), np.int32)
        for ky, kx in np.ndindex(kernel_rows, kernel_columns):
            window = _window(layer, inputs, ky, kx, size[1:])
            sums += (window.reshape(-1, channels) @ weights[:, :, ky, kx].T).astype(np.int32)
        groups.append(sums.reshape(*size, outputs))
    return np.concatenate(groups, axis=-1) + layer.bias


def _window(layer: Conv, pixels: NDArray, ky: int, kx: int, size: tuple[int, ...]) -> NDArray:
    """What kernel tap (ky, kx) meets at each output, [batch, height, width, channels]."""
    (rows, columns), (sy, sx) = size, layer.stride
    y, x = ky * layer.dilation[0], kx * layer.dilation[1]
    return pixels[:, y : y + (rows - 1) * sy + 1 : sy, x : x + (columns - 1) * sx + 1 : sx]
