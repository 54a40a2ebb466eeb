"""Bias of a layer, as an input of Conv and Gemm or as an Add after MatMul: int32 in units of the accumulator."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from systolith.compiler.onnx_node import Node
from systolith.compiler.onnx_tensors import Constant, DequantizedConstant, Sum, Tensor, describe, image_roles
from systolith.compiler.onnx_views import merge

__all__ = ["add", "with_bias"]

TOLERANCE = 1e-5
"""Largest relative difference between a bias scale and x_scale * w_scale, both float32 by other ways of computing."""


def add(node: Node, inputs: list[Tensor | None]) -> Sum:
    """Add of a layer and a constant: its bias."""
    node.attributes()
    sums = [x for x in inputs if isinstance(x, Sum)]
    others = [x for x in inputs if not isinstance(x, Sum)]
    if len(sums) != 1 or not isinstance(others[0], Constant | DequantizedConstant):
        raise node.error(
            "inputs must be the result of a layer and a constant bias (addition of two tensors is not "
            f"supported yet), not {' and '.join(describe(x) for x in inputs)}"
        )
    return with_bias(node, sums[0], others[0])


def with_bias(node: Node, x: Sum, tensor: Tensor) -> Sum:
    """The layer with that bias."""
    if x.has_bias or x.low is not None or x.high is not None:
        raise node.error("a layer must have one bias, added before its activation")
    bias = _channels(node, x, _integers(node, x, tensor))
    return replace(x, layer=replace(x.layer, bias=bias.astype(np.int32)), has_bias=True)


def _integers(node: Node, x: Sum, tensor: Tensor) -> NDArray:
    """The bias in units of the accumulator, of the shape that the file gives it."""
    match tensor:
        case Constant() if tensor.values.dtype == np.int32:
            return tensor.values
        case Constant() if tensor.values.dtype == np.float32:
            return _quantized(node, x, tensor.values)
        case DequantizedConstant() if tensor.values.dtype == np.int32:
            _check_scale(node, x, tensor)
            return tensor.values
    raise node.error(f"bias must be a dequantized int32 or a float32 constant, not {describe(tensor)}")


def _quantized(node: Node, x: Sum, values: NDArray[np.float32]) -> NDArray:
    """A float bias as ONNX Runtime quantizes it: rint(bias / (x_scale * w_scale)) in float32.

    It does so for Conv and Gemm, and for the MatMul of a matrix, which it makes a Gemm; it keeps others in float.
    """
    if x.node.op == "MatMul" and len(x.shape) != 2:
        raise node.error(f"bias of float32 must follow a matrix, not shape {x.shape}; quantize it to int32")
    if values.shape != x.layer.bias.shape:
        raise node.error(f"bias of float32 must be of shape {x.layer.bias.shape}, not {values.shape}")
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
    if x.layer.op in ("Conv", "QLinearConv") and node is x.node:
        if values.shape != (count,):
            raise node.error(f"bias must be of shape {(count,)}, not {values.shape}")
        return values
    channel_axis = merge([image_roles(x.dims)[1]])
    expected = tuple(count if axis == channel_axis else 1 for axis in x.view.axes)
    padded = (1,) * (len(expected) - values.ndim) + values.shape
    if len(padded) != len(expected) or any(n not in (1, e) for n, e in zip(padded, expected, strict=True)):
        raise node.error(f"bias must be broadcast from shape {expected}, one value for each output, not {values.shape}")
    return np.broadcast_to(values.reshape(-1), (count,))
