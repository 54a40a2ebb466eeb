"""Scale and shift for each channel, y = gain * x + shift, as a batch normalization.

Behind a layer they go into its weights and bias. Of a tensor they become a layer of their own, a depthwise 1x1
convolution. Both are within one step of ONNX Runtime, which computes them in float32: weights are exact, the bias is
rounded.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from systolith.compiler.frontend.fusing.limits import LIMITS, limited
from systolith.compiler.frontend.model.node import Node
from systolith.compiler.frontend.values.images import rebased
from systolith.compiler.frontend.values.tensors import Constant, Dequantized, Function, PendingConv, Quantized, Tensor
from systolith.compiler.frontend.values.views import View
from systolith.compiler.ir.graph import Conv

__all__ = ["LINEAR", "affine", "folded", "gain_and_shift", "is_affine", "largest_products", "scaled"]

LINEAR = ("Add", "BatchNormalization", "Div", "Mul", "Neg", "Sub")
CHANNELS = 1
ROUNDED = "within one step of ONNX Runtime, which computes it in float32"
LARGEST = 1 << 30
"""Of a bias: leaves room for the products."""

Constants = Sequence[NDArray | None]


def is_affine(x: Function | Dequantized) -> bool:
    """Whether the function has a constant for each channel, so that no table can hold it."""
    if isinstance(x, Dequantized):
        return False
    if x.node.op == "BatchNormalization":
        return True  # Of one channel as well.
    return any(
        is_affine(a) if isinstance(a, Function | Dequantized) else a is not None and a.size > 1 for a in x.arguments
    )


def affine(x: Function) -> PendingConv:
    """The function as a layer before its QuantizeLinear. Raises UnsupportedError for one that is not linear."""
    if x.node.op in LIMITS and sum(isinstance(y, Function | Dequantized) for y in x.arguments) == 1:
        inputs: list[Tensor | None] = [_operand(x.node, y) for y in x.arguments]
        total = limited(x.node, inputs)
        assert isinstance(total, PendingConv)
        return total
    source = x.leaf.quantized.array
    assert source.roles is not None and source.scale is not None
    count = source.roles[CHANNELS].size
    gain, shift = (np.broadcast_to(values, count).astype(np.float64) for values in _line(x))
    weights, scale = _fitted(gain, shift, float(source.scale))
    x.node.note(ROUNDED)
    total = _depthwise(x.node, x.leaf, x.view, weights, scale.astype(np.float32))
    return _shifted(total, shift, scale)


def _operand(node: Node, x: Function | Dequantized | NDArray | None) -> PendingConv | Constant | None:
    """What a limit stands behind, and its constants."""
    if isinstance(x, Dequantized):
        raise node.unsupported("a limit must be one number, not one for each channel")
    return affine(x) if isinstance(x, Function) else None if x is None else Constant(x)


def scaled(node: Node, x: Dequantized, weights: NDArray, scale: NDArray[np.float32]) -> PendingConv:
    """The tensor times int8 `weights`, one for each channel, of that `scale`: exact, except that a result halfway
    between two steps goes to the even product; ONNX Runtime's QLinearMul takes the even sum with the zero point."""
    return _depthwise(node, x, x.view, weights, scale)


def _depthwise(node: Node, x: Dequantized, view: View, weights: NDArray, scale: NDArray[np.float32]) -> PendingConv:
    source, count = x.quantized.array, len(weights)
    dims, view = rebased(node, Quantized(source, view, x.quantized.dtype))
    values = np.ascontiguousarray(weights.astype(np.int8)[:, None, None, None])
    bias, ones = np.zeros(count, np.int32), np.ones(count, np.float32)
    layer = Conv(node.name, node.op, source.name, "", values, bias, ones, groups=count)
    assert source.scale is not None
    return PendingConv(node, layer, source.scale, scale, dims, view)


def folded(node: Node, x: PendingConv, gain: NDArray, shift: NDArray) -> PendingConv:
    """The layer with gain * result + shift as its result."""
    if x.low is not None or x.high is not None:
        raise node.unsupported("a QuantizeLinear must stand between it and the Relu or Clip before it")
    count = len(x.layer.bias)
    gain, shift = (np.broadcast_to(values, count).astype(np.float64) for values in (gain, shift))
    weights, negative = x.layer.weights, gain < 0
    if (weights[negative] == -128).any():
        raise node.unsupported("weights of channels with a negative factor must be from -127, as they are negated")
    weights = np.where(negative[:, None, None, None], -weights, weights).astype(np.int8)
    weights[gain == 0] = 0
    old = np.broadcast_to(x.w_scale, count).astype(np.float64)
    before = x.layer.bias * float(x.x_scale) * old
    if x.constant is not None:
        before = np.where(np.isnan(x.constant), before, x.constant)
    node.note(ROUNDED)
    scaled = replace(x, layer=replace(x.layer, weights=weights))
    return _shifted(scaled, before * gain + shift, old * np.abs(gain))


def _shifted(x: PendingConv, real: NDArray[np.float64], w_scale: NDArray[np.float64]) -> PendingConv:
    """The layer with weights of that scale and the bias `real`, instead of its own.

    Where no accumulator has room for the bias, or none has weights that matter, the channel is constant. What its
    products would have added counts as rounding.
    """
    if np.isnan(real).any():
        raise x.node.unsupported("bias must be numbers; it has NaN")
    products = largest_products(x)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        exact = real / (float(x.x_scale) * w_scale)
    constant = ~(np.abs(exact) <= LARGEST) | (products == 0)
    bias = np.where(constant, 0, np.rint(exact))
    rounding = np.where(constant, products, np.abs(exact - bias)) + (0 if x.rounding is None else x.rounding)
    weights = np.where(constant[:, None, None, None], np.int8(0), x.layer.weights)
    layer = replace(x.layer, weights=np.ascontiguousarray(weights), bias=bias.astype(np.int32))
    return replace(
        x, layer=layer, w_scale=w_scale.astype(np.float32), has_bias=True, rounding=rounding,
        constant=np.where(constant, real, np.nan), unrounded=None,
    )  # fmt: skip


def largest_products(x: PendingConv) -> NDArray[np.float64]:
    """What the products of each channel add up to at most, whatever the input."""
    return 255.0 * np.abs(x.layer.weights.astype(np.float64)).sum(axis=(1, 2, 3))


def gain_and_shift(node: Node, position: int, constants: Constants) -> tuple[NDArray, NDArray]:
    """Of an operator that is linear in the input at `position`, float64; the other inputs are `constants`."""
    zero, one = np.zeros(()), np.ones(())
    if node.op == "BatchNormalization":
        return _normalization(node, constants)
    other = one if node.op == "Neg" else constants[1 - position]
    assert other is not None
    other = other.astype(np.float64)
    match node.op, position:
        case "Add", _:
            return one, other
        case "Sub", 0:
            return one, -other
        case "Sub", _:
            return -one, other
        case "Neg", _:
            return -one, zero
        case "Mul", _:
            return other, zero
        case "Div", 0 if other.all():
            return 1 / other, zero
    raise node.unsupported("must be linear with a constant for each channel")


def _normalization(node: Node, constants: Constants) -> tuple[NDArray, NDArray]:
    values = node.attributes(epsilon=1e-5, momentum=0.9, spatial=1, training_mode=0)
    if values["training_mode"] or not values["spatial"]:
        raise node.unsupported("attributes 'training_mode' and 'spatial' must be 0 and 1")
    scale, bias, mean, variance = (np.asarray(x, np.float64) for x in constants[1:5])
    if not (variance + values["epsilon"] > 0).all():
        raise node.unsupported("input 'var' must be positive with 'epsilon' added")
    deviation = np.sqrt(variance + values["epsilon"])
    return scale / deviation, bias - mean * scale / deviation


def _line(x: Function | Dequantized) -> tuple[NDArray, NDArray]:
    """Gain and shift of the whole function."""
    if isinstance(x, Dequantized):
        return np.ones(()), np.zeros(())
    variable = [i for i, argument in enumerate(x.arguments) if isinstance(argument, Function | Dequantized)]
    if x.node.op not in LINEAR or len(variable) != 1:
        raise x.node.unsupported("must be linear to be computed together with a constant for each channel")
    constants = [argument if isinstance(argument, np.ndarray) else None for argument in x.arguments]
    gain, shift = gain_and_shift(x.node, variable[0], constants)
    inner = x.arguments[variable[0]]
    assert isinstance(inner, Function | Dequantized)
    before, offset = _line(inner)
    return gain * before, gain * offset + shift


def _fitted(gain: NDArray, shift: NDArray, x_scale: float) -> tuple[NDArray, NDArray]:
    """Weights and their scales of channels: of all weights those that need the least rounding of the bias.

    Where the bias does not fit even with a weight of 1, the gain has no effect on 8 bits, and the weight is 0.
    """
    sizes = np.arange(127, 0, -1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        bias = shift[:, None] * sizes / (x_scale * np.abs(gain))[:, None]
        error = np.where(np.abs(bias) <= LARGEST, np.abs(bias - np.rint(bias)) / sizes, np.inf)
        best = np.argmin(error, axis=1)
        size = np.where(np.isfinite(error.min(axis=1)) & (gain != 0), sizes[best], 0)
        scale = np.where(size > 0, np.abs(gain) / size, 0)
    return (np.sign(gain) * size).astype(np.int8), scale
