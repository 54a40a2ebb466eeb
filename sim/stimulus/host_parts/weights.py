"""Random layers whose weights and biases are not as ONNX Runtime's quantizer writes them.

Biases with a scale, type or zero point of their own, or in float32; asymmetric weights; channels whose weights are all
zero, with scales that mean nothing; and the same layers as one operator of 8-bit tensors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from systolith.sim.stimulus.draws import require
from systolith.sim.stimulus.host_parts.tensors import HostTensors
from systolith.sim.stimulus.tensors import Quantized

__all__ = ["foreign_layer", "qlinear_layer"]

DEAD = (1e-40, 0.0, 1e-38, 1e-30, 3.0)
"""Scales of channels whose weights are all zero."""


@dataclass(frozen=True, eq=False)
class _Layer:
    """An operator, its weights with their scales and zero points, along `axis`, and its attributes."""

    op: str
    weights: NDArray
    scale: NDArray[np.float32]
    zero_point: NDArray
    axis: int
    attributes: dict[str, Any]

    @property
    def outputs(self) -> int:
        return self.weights.shape[self.axis]


def foreign_layer(net: HostTensors, x: Quantized, _: Sequence[Quantized]) -> list[Quantized]:
    """A layer between QuantizeLinear and DequantizeLinear with such weights and such a bias."""
    layer = _layer(net, x)
    weights = _dequantized(net, layer)
    operands = [net.real(x), weights]
    plain = net.node(layer.op, operands, **layer.attributes)
    if net.chance(75):
        bias = _bias(net, layer, x, float(np.std(net.reals[plain])) + 0.01)
        if layer.op == "MatMul":
            plain = net.node("Add", [plain, bias] if net.chance(70) else [bias, plain])
        else:
            net.writer.nodes[:] = [node for node in net.writer.nodes if node.output[0] != plain]
            plain = net.node(layer.op, [*operands, bias], **layer.attributes)
    if net.chance(30):
        plain = net.node("Relu", [plain])
    return [net.quantized(plain)]


def qlinear_layer(net: HostTensors, x: Quantized, _: Sequence[Quantized]) -> list[Quantized]:
    """QLinearConv, QLinearMatMul or QGemm."""
    layer = _layer(net, x, zero_points=net.dtype == np.uint8)
    lengths = len(net.writer.nodes), len(net.writer.initializers)
    values = net.reals[net.node(layer.op, [net.real(x), _dequantized(net, layer)], **layer.attributes)]
    del net.writer.nodes[lengths[0] :], net.writer.initializers[lengths[1] :]
    scale, zero_point = net.parameters(values)
    y = net.rounded("", values, scale, zero_point)
    bias = np.rint(net.rng.normal(0, 300, layer.outputs)).astype(np.int32)
    given = [
        x.name,
        *net.stored(x),
        *(net.constant(part, "w") for part in (layer.weights, layer.scale, layer.zero_point)),
    ]
    extra = [net.constant(bias, "bias")] if net.chance(60) else []
    match layer.op:
        case "Conv":
            return [net.integers("QLinearConv", [*given, *net.stored(y), *extra], values, y, **layer.attributes)]
        case "MatMul":
            return [net.integers("QLinearMatMul", [*given, *net.stored(y)], values, y)]
        case _:
            name = net.writer.node("QGemm", [*given, *(extra or [""]), *net.stored(y)], domain="com.microsoft",
                                   **layer.attributes)  # fmt: skip
            return [net.rounded(name, values, y.scale, y.zero_point)]


def _layer(net: HostTensors, x: Quantized, zero_points: bool = True) -> _Layer:
    """A convolution of an image, a product or a dense layer of a matrix."""
    attributes: dict[str, Any] = {}
    if len(x.shape) in (3, 4):
        kernel = [net.integer(1, min(3, n)) for n in x.shape[2:]]
        attributes["pads"] = [net.integer(0, k - 1) for k in (*kernel, *kernel)]
        op, shape, axis = "Conv", (net.integer(1, 8), x.shape[1], *kernel), 0
    else:
        require(len(x.shape) == 2)
        op = net.choice(["MatMul", "Gemm"])
        shape, axis = (x.shape[1], net.integer(1, 10)), 1
        if op == "Gemm" and net.chance(50):
            shape, axis, attributes["transB"] = shape[::-1], 0, 1
    values = np.clip(np.rint(net.rng.normal(0, 40, shape)), -100, 100)
    many = net.chance(60)
    count = shape[axis]
    scale = net.rng.uniform(0.002, 0.02, count if many else ()).astype(np.float32)
    if many and net.chance(40):
        dead = net.integer(0, count - 1)
        values[(slice(None),) * axis + (dead,)] = 0
        scale[dead] = net.choice(DEAD)
    return _Layer(op, *_stored(net, values, scale, axis, zero_points), axis, attributes)


def _stored(net: HostTensors, values: NDArray, scale: NDArray[np.float32], axis: int,
            zero_points: bool) -> tuple[NDArray, NDArray[np.float32], NDArray]:  # fmt: skip
    """Weights in int8 or uint8, with scales and zero points: 0 mostly, 128, one or one for each channel."""
    unsigned = zero_points and net.chance(40)
    middle = 128 if unsigned else 0
    shift = np.full(scale.shape, middle)
    if zero_points and net.chance(40):
        shift = middle + net.rng.integers(-20, 21, scale.shape)
    along = shift.reshape([-1 if i == axis and scale.ndim else 1 for i in range(values.ndim)])
    dtype = np.uint8 if unsigned else np.int8
    return (values + along).astype(dtype), scale, np.asarray(shift, dtype)


def _dequantized(net: HostTensors, layer: _Layer) -> str:
    """The real weights, by a node."""
    return _real(net, layer.weights, layer.scale, layer.zero_point, layer.axis)


def _real(net: HostTensors, values: NDArray, scale: ArrayLike, zero_point: ArrayLike, axis: int) -> str:
    attributes = {"axis": axis} if np.ndim(scale) else {}
    return net.host("DequantizeLinear", [net.constant(part, "w") for part in (values, scale, zero_point)], **attributes)


def _bias(net: HostTensors, layer: _Layer, x: Quantized, size: float) -> str:
    """A bias about as large as `size`, of one of many kinds."""
    count = layer.outputs
    real = net.rng.normal(0, size, count).astype(np.float32)
    unit = np.asarray(x.scale * layer.scale, np.float32)
    largest = np.float32(np.abs(real).max() / 120 + 1e-6)
    match net.integer(0, 6):
        case 0:  # As the quantizer writes it, zero where a channel is dead.
            steps = np.zeros(count)
            np.divide(real, unit, out=steps, where=np.broadcast_to(unit > 1e-20, count))
            values = np.clip(np.rint(steps), -(2**24), 2**24).astype(np.int32)
            return _real(net, values, unit, np.zeros(unit.shape, np.int32), 0)
        case 1:  # One scale of its own.
            scale = np.float32(largest * net.choice([0.01, 0.37, 1.0]))
            return _real(net, np.rint(real / scale).astype(np.int32), scale, np.int32(0), 0)
        case 2:  # A scale for each channel, which is not that of the products.
            scale = np.asarray(net.rng.uniform(0.3, 3, count) * largest / 100, np.float32)
            return _real(net, np.rint(real / scale).astype(np.int32), scale, np.zeros(count, np.int32), 0)
        case 3:  # 8 bits, with a zero point.
            zero_point = net.integer(-20, 20) if net.chance(60) else 0
            values = np.clip(np.rint(real / largest) + zero_point, -128, 127).astype(np.int8)
            return _real(net, values, largest, np.int8(zero_point), 0)
        case 4:
            return net.constant(real)
        case 5:  # All zero, with any scale.
            return _real(net, np.zeros(count, np.int32), np.float32(1), np.int32(0), 0)
        case _:  # A view of one.
            scale = np.float32(largest / 50)
            values = np.rint(real / scale).astype(np.int32).reshape(1, count)
            return net.host("Reshape", [_real(net, values, scale, np.int32(0), 0), net.ints([-1])])
