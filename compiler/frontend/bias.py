"""Bias of a layer, as an input of Conv and Gemm or as an Add behind them: int32 in units of the accumulator."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from systolith.compiler.frontend.affine import folded
from systolith.compiler.frontend.array import image_roles
from systolith.compiler.frontend.node import Node
from systolith.compiler.frontend.roles import per_channel
from systolith.compiler.frontend.tensors import Constant, DequantizedConstant, Sum, Tensor, describe
from systolith.compiler.frontend.views import merge

__all__ = ["add_constant", "with_bias"]

TOLERANCE = 1e-5
"""Largest relative difference between a bias scale and x_scale * w_scale, both float32 by other ways of computing."""


def add_constant(node: Node, x: Sum, tensor: Constant | DequantizedConstant) -> Sum:
    """A constant added to a layer's result: its bias, or one more shift of it."""
    float_bias = isinstance(tensor, Constant) and x.node.op == "MatMul" and tensor.shape == x.layer.bias.shape
    dequantized = isinstance(tensor, DequantizedConstant) and tensor.values.dtype == np.int32
    limited = x.low is not None or x.high is not None
    if not (x.has_bias or limited) and (dequantized or (float_bias and len(x.shape) == 2)):
        return with_bias(node, x, tensor)
    values = tensor.real if isinstance(tensor, DequantizedConstant) else tensor.values
    return folded(node, x, np.ones(()), per_channel(node, x.view, image_roles(x.dims), values))


def with_bias(node: Node, x: Sum, tensor: Tensor) -> Sum:
    """The layer with that bias."""
    if x.has_bias or x.low is not None or x.high is not None:
        raise node.unsupported("a layer must have one bias, added before its activation")
    bias = _channels(node, x, _integers(node, x, tensor))
    total = replace(x, layer=replace(x.layer, bias=bias.astype(np.int32)), has_bias=True)
    as_is = x.node.op == "ConvTranspose" or tensor.shape != bias.shape
    if as_is and isinstance(tensor, Constant) and tensor.values.dtype == np.float32:
        total = replace(total, rounding=np.abs(_channels(node, x, tensor.values) / x.unit - bias))
    return total


def _integers(node: Node, x: Sum, tensor: Tensor) -> NDArray:
    """The bias in units of the accumulator, of the shape that the file gives it."""
    match tensor:
        case Constant() if tensor.values.dtype == np.int32 and node.op.startswith("Q"):
            return tensor.values
        case Constant() if tensor.values.dtype == np.float32:
            return _quantized(node, x, tensor.values)
        case DequantizedConstant() if tensor.values.dtype == np.int32:
            _check_scale(node, x, tensor)
            return tensor.values
    raise node.unsupported(f"bias must be a dequantized int32 or a float32 constant, not {describe(tensor)}")


def _quantized(node: Node, x: Sum, values: NDArray[np.float32]) -> NDArray:
    """A float bias as ONNX Runtime quantizes it: rint(bias / (x_scale * w_scale)) in float32.

    It does so for Conv and Gemm, and for the MatMul of a matrix, which it makes a Gemm; it keeps others in float.
    """
    if x.node.op == "MatMul" and len(x.shape) != 2:
        raise node.unsupported(f"bias of float32 must follow a matrix, not shape {x.shape}; quantize it to int32")
    if x.node.op == "Gemm":
        values = _channels(node, x, values)
    if values.shape != x.layer.bias.shape:
        raise node.unsupported(f"bias of float32 must be of shape {x.layer.bias.shape}, not {values.shape}")
    with np.errstate(all="ignore"):
        rounded = np.rint(values / x.unit)
    if not (np.abs(rounded) < 2.0**31).all():
        raise node.error("bias of float32 must fit int32 when divided by x_scale * w_scale; it does not")
    return rounded


def _check_scale(node: Node, x: Sum, bias: DequantizedConstant) -> None:
    if bias.zero_point.any():
        raise node.error(f"bias must have zero point 0, not {bias.zero_point.reshape(-1)[0]}")
    shape = [-1 if i == bias.axis else 1 for i in range(bias.values.ndim)] if bias.scale.ndim else ()
    found = _channels(node, x, np.broadcast_to(bias.scale.reshape(shape), bias.values.shape))
    expected = np.broadcast_to(x.unit, found.shape)
    wrong = np.abs(found - expected) > TOLERANCE * expected
    if wrong.any():
        raise node.error(f"bias must have scale x_scale * w_scale = {expected[wrong][0]}, not {found[wrong][0]}")


def _channels(node: Node, x: Sum, values: NDArray) -> NDArray:
    """One value for each output channel from an array that is broadcast over the layer's result."""
    count = len(x.layer.bias)
    if x.layer.op in ("Conv", "ConvTranspose", "QLinearConv") and node is x.node:
        if values.shape != (count,):
            raise node.error(f"bias must be of shape {(count,)}, not {values.shape}")
        return values
    channel_axis = merge([image_roles(x.dims)[1]])
    expected = tuple(count if axis == channel_axis else 1 for axis in x.view.axes)
    padded = (1,) * (len(expected) - values.ndim) + values.shape
    if len(padded) != len(expected) or any(n not in (1, e) for n, e in zip(padded, expected, strict=True)):
        raise node.unsupported(
            f"bias must be broadcast from shape {expected}, one value for each output, not {values.shape}"
        )
    return np.broadcast_to(values.reshape(-1), (count,))
