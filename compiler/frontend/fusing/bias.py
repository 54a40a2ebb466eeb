"""Bias of a layer, as an input of Conv and Gemm or as an Add behind them: int32 in units of the accumulator.

ONNX Runtime has the same int32 where the bias is int32 of the scale x_scale * w_scale, or float32 of a layer whose bias
it quantizes. Any other bias is taken as the real number that it is; ONNX Runtime adds that in float32.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from systolith.compiler.frontend.fusing.affine import folded, largest_products
from systolith.compiler.frontend.model.node import Node
from systolith.compiler.frontend.values.array import image_roles
from systolith.compiler.frontend.values.roles import per_channel
from systolith.compiler.frontend.values.tensors import Constant, DequantizedConstant, PendingConv, Tensor, describe

__all__ = ["add_constant", "with_bias", "with_real_bias"]

TOLERANCE = 1e-5
"""Largest relative difference between a bias scale and x_scale * w_scale, both float32 by other ways of computing."""


def add_constant(node: Node, x: PendingConv, tensor: Constant | DequantizedConstant) -> PendingConv:
    """A constant added to a layer's result: its bias, or one more shift of it."""
    float_bias = isinstance(tensor, Constant) and x.node.op == "MatMul" and tensor.shape == x.layer.bias.shape
    dequantized = isinstance(tensor, DequantizedConstant) and tensor.values.dtype == np.int32
    limited = x.low is not None or x.high is not None
    if not (x.has_bias or limited) and (dequantized or (float_bias and len(x.shape) == 2)):
        return with_bias(node, x, tensor)
    return folded(node, x, np.ones(()), per_channel(node, x.view, image_roles(x.dims), _real(tensor)))


def with_bias(node: Node, x: PendingConv, tensor: Tensor) -> PendingConv:
    """The layer with that bias."""
    if x.has_bias or x.low is not None or x.high is not None:
        raise node.unsupported("a layer must have one bias, added before its activation")
    if isinstance(tensor, Constant) and tensor.values.dtype == np.int32 and node.op.startswith("Q"):
        return _with_integers(x, _channels(node, x, tensor.values))
    if isinstance(tensor, DequantizedConstant) and _has_unit(node, x, tensor):
        return _with_integers(x, _channels(node, x, tensor.values))
    if isinstance(tensor, Constant) and _is_rounded(x, tensor):
        with np.errstate(all="ignore"):
            exact = tensor.values / x.unit
        bias = np.rint(exact)
        if (np.abs(bias) + largest_products(x) < 2.0**31).all():
            return replace(_with_integers(x, bias), rounding=np.abs(exact - bias), unrounded=tensor.values)
    return with_real_bias(node, x, tensor)


def with_real_bias(node: Node, x: PendingConv, tensor: Tensor, factor: float = 1.0) -> PendingConv:
    """The layer with `factor` times that bias, which ONNX Runtime adds in float32."""
    if not isinstance(tensor, Constant | DequantizedConstant) or _real(tensor).dtype != np.float32:
        raise node.unsupported(f"bias must be a dequantized or a float32 constant, not {describe(tensor)}")
    return folded(node, x, np.ones(()), np.float32(factor) * _channels(node, x, _real(tensor)))


def _with_integers(x: PendingConv, bias: NDArray) -> PendingConv:
    return replace(x, layer=replace(x.layer, bias=bias.astype(np.int32)), has_bias=True)


def _real(tensor: Constant | DequantizedConstant) -> NDArray:
    return tensor.real if isinstance(tensor, DequantizedConstant) else tensor.values


def _is_rounded(x: PendingConv, bias: Constant) -> bool:
    """Whether ONNX Runtime rounds the bias to units of the accumulator."""
    return bias.values.dtype == np.float32 and bias.shape == x.layer.bias.shape and x.node.op != "ConvTranspose"


def _has_unit(node: Node, x: PendingConv, bias: DequantizedConstant) -> bool:
    """Whether 1 of the bias is 1 of the accumulator, and 0 is 0."""
    if bias.values.dtype != np.int32 or bias.zero_point.any():
        return False
    shape = [-1 if i == bias.axis else 1 for i in range(bias.values.ndim)] if bias.scale.ndim else ()
    found = _channels(node, x, np.broadcast_to(bias.scale.reshape(shape), bias.values.shape))
    return bool((np.abs(found - x.unit) <= TOLERANCE * x.unit).all())


def _channels(node: Node, x: PendingConv, values: NDArray) -> NDArray:
    """One value for each output channel from an array that is broadcast over the layer's result."""
    count = len(x.layer.bias)
    if x.layer.op in ("Conv", "ConvTranspose", "QLinearConv") and node is x.node:
        if values.shape != (count,):
            raise node.unsupported(f"bias must be of shape {(count,)}, not {values.shape}")
        return values
    return np.broadcast_to(per_channel(node, x.view, image_roles(x.dims), values), (count,))
