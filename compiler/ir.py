"""The graph between the ONNX front end and the tiler: int8 tensors in channel order, and the layers that connect them.

Everything here is in the int8 domain: a uint8 tensor of the model has its zero point, and its clamp limits, minus 128.
Values are frozen; a pass makes a new graph.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

import numpy as np
from numpy.typing import NDArray

from systolith.errors import SystolithError

__all__ = ["Conv", "Graph", "Port", "Value", "verify"]

LARGEST = 1 << 31
"""Elements of a tensor stay below: memory offsets have 32 bits, and a tensor may be padded to whole words."""


@dataclass(frozen=True)
class Value:
    """A tensor of int8: `dims` = (batch, channels, height, width).

    A matrix [M, K] is one image of M pixels, (1, K, 1, M), where it is a network input, and stays one from MatMul to
    MatMul; it is (M, K, 1, 1) where a Flatten made it from M images.
    """

    name: str
    dims: tuple[int, int, int, int]
    scale: float
    zero_point: int


@dataclass(frozen=True, eq=False)
class Conv:
    """A convolution, or what is one to the array (MatMul, Gemm: kernel 1x1, or the whole height x width after Flatten).

    out = clamp(rint(float32(sum (x - x_zero_point) * weights + bias) * scale) + out_zero_point, low, high), where x
    outside the input is x_zero_point. `weights` int8 [O, C / groups, kernel y, kernel x], where output o reads the
    channels of group o * groups // O; `bias` int32 [O]; `scale` float32 [O]; `pads` (top, left, bottom, right). `op` is
    the ONNX operator, for reports.
    """

    name: str
    op: str
    input: str
    output: str
    weights: NDArray[np.int8]
    bias: NDArray[np.int32]
    scale: NDArray[np.float32]
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1
    low: int = -128
    high: int = 127

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Output height and width for an input of that size (ONNX Conv, explicit pads)."""
        sizes = zip(
            (height, width),
            self.weights.shape[2:],
            self.stride,
            self.dilation,
            (self.pads[0] + self.pads[2], self.pads[1] + self.pads[3]),
            strict=True,
        )
        rows, columns = (
            (size + pad - dilation * (kernel - 1) - 1) // stride + 1 for size, kernel, stride, dilation, pad in sizes
        )
        return rows, columns

    def macs(self, graph: "Graph") -> int:
        """Multiply-accumulates of the layer, padding included, as networks are usually counted."""
        batch, _, height, width = graph.values[self.output].dims
        return batch * height * width * self.weights.size


@dataclass(frozen=True)
class Port:
    """A network input or output as the user sees it, and the value behind it.

    `shape` and `dtype` ("int8", "uint8", "float32") are the model's. The array, quantized with the value's scale and
    zero point to `quantized` ("int8" or "uint8"), transposed by `order` and reshaped, has the dims of `value`.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    value: str
    order: tuple[int, ...]
    quantized: str


@dataclass(frozen=True)
class Graph:
    """Layers in an order in which they can run. `values` by name."""

    name: str
    values: Mapping[str, Value]
    layers: tuple[Conv, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    notes: tuple[str, ...] = field(default=())


def verify(graph: Graph) -> Graph:
    """The graph itself, if every layer reads what is there and writes what its shapes say. Raises SystolithError."""
    for value in graph.values.values():
        if prod(value.dims) >= LARGEST:
            raise SystolithError(f"Tensor '{value.name}' must have fewer than {LARGEST} elements, not {value.dims}")
    known = {port.value for port in graph.inputs}
    for layer in graph.layers:
        if layer.input not in known:
            raise SystolithError(f"Layer '{layer.name}' must read a value made before it, not '{layer.input}'")
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
        expected = (batch, layer.weights.shape[0], *layer.output_size(height, width))
        if graph.values[layer.output].dims != expected or min(expected) < 1:
            raise SystolithError(f"Layer '{layer.name}' must make {expected}, not {graph.values[layer.output].dims}")
        known.add(layer.output)
    for port in graph.outputs:
        if port.value not in known:
            raise SystolithError(f"Output '{port.name}' must be made by a layer, not '{port.value}'")
    return graph
