"""Conv, MatMul and Gemm in both their forms: each becomes the sum of a layer on the array."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.compiler.frontend.fusing.bias import with_bias, with_real_bias
from systolith.compiler.frontend.fusing.finish import emit
from systolith.compiler.frontend.fusing.wide_weights import narrowed
from systolith.compiler.frontend.model.node import Node
from systolith.compiler.frontend.operators.geometry import Geometry, geometry
from systolith.compiler.frontend.operators.quantize_linear import activation_parameters, constant, scale_of
from systolith.compiler.frontend.values.array import Layers
from systolith.compiler.frontend.values.roles import bind_image, bind_pixels, bind_rows, is_over_pixels
from systolith.compiler.frontend.values.tensors import (
    Dequantized,
    DequantizedConstant,
    PendingConv,
    Quantized,
    Tensor,
    describe,
)
from systolith.compiler.frontend.values.views import View
from systolith.compiler.ir.graph import Conv

__all__ = ["Weights", "activation", "conv", "dequantized", "gemm", "matmul", "qgemm", "qlinear_conv", "qlinear_matmul"]

CONV = {"auto_pad": "NOTSET", "dilations": (), "group": 1, "kernel_shape": (), "pads": (), "strides": ()}
LARGEST_MIX = 1 << 18
"""Weights of a product along pixels: they are there once for each channel."""
GEMM = {"alpha": 1.0, "transA": 0, "transB": 0}


@dataclass(frozen=True, eq=False)
class Weights:
    """Weights without their zero point, and their scale, a scalar or one for each output."""

    values: NDArray[np.int16]
    scale: NDArray[np.float32]


def conv(node: Node, inputs: list[Tensor | None], layers: Layers) -> PendingConv:
    """Conv between DequantizeLinear and QuantizeLinear."""
    x, weights, bias = (*inputs, None)[:3]
    total = _convolve(node, activation(node, x, 0), dequantized(node, weights, 0), layers)
    return total if bias is None else with_bias(node, total, bias)


def qlinear_conv(node: Node, inputs: list[Tensor | None], layers: Layers) -> Quantized:
    """QLinearConv: convolution and requantization."""
    x, weights, (scale, zero_point), bias = _quantized_operands(node, inputs, ("x", "w"), 0)
    total = _convolve(node, x, weights, layers)
    total = total if bias is None else with_bias(node, total, bias)
    return _requantized(node, total, scale, zero_point, layers)


def matmul(node: Node, inputs: list[Tensor | None], layers: Layers) -> PendingConv:
    """MatMul of a dequantized tensor with constant weights, on either side."""
    node.attributes()
    first, second = inputs[:2]
    if isinstance(first, DequantizedConstant) and isinstance(second, Dequantized):
        return _multiply_left(node, dequantized(node, first, -2), second.quantized, layers)
    return _multiply(node, activation(node, first, 0), dequantized(node, second, -1), layers)


def qlinear_matmul(node: Node, inputs: list[Tensor | None], layers: Layers) -> Quantized:
    """QLinearMatMul with constant second operand."""
    node.attributes()
    x, weights, (scale, zero_point), _ = _quantized_operands(node, inputs, ("a", "b"), 1)
    return _requantized(node, _multiply(node, x, weights, layers), scale, zero_point, layers)


def gemm(node: Node, inputs: list[Tensor | None], layers: Layers) -> PendingConv:
    """Gemm of a dequantized matrix with constant weights."""
    attributes = node.attributes(**GEMM, beta=1.0)
    x, weights, bias = (*inputs, None)[:3]
    _require_rank(node, x, 2)
    kernel = dequantized(node, weights, 0 if attributes["transB"] else 1)
    total = _product(node, activation(node, x, 0), kernel, attributes, layers)
    if bias is None:
        return total
    if attributes["alpha"] == attributes["beta"] == 1:
        return with_bias(node, total, bias)
    return with_real_bias(node, total, bias, attributes["beta"])


def qgemm(node: Node, inputs: list[Tensor | None], layers: Layers) -> Quantized:
    """QGemm of com.microsoft with quantized output, as ONNX Runtime's quantizer writes Gemm."""
    attributes = node.attributes(**GEMM)
    operands = (*inputs, *(None,) * 9)[:9]
    if operands[7] is None or operands[8] is None:
        raise node.unsupported("inputs 'y_scale' and 'y_zero_point' must be there; a float32 output is not supported")
    _require_rank(node, operands[0], 2)
    reordered = [*operands[:6], *operands[7:9], operands[6]]
    axis = 0 if attributes["transB"] else 1
    x, weights, (scale, zero_point), bias = _quantized_operands(node, reordered, ("A", "B"), axis)
    total = _product(node, x, weights, attributes, layers)
    total = total if bias is None else with_bias(node, total, bias)
    return _requantized(node, total, scale, zero_point, layers)


def _convolve(node: Node, x: Quantized, weights: Weights, layers: Layers) -> PendingConv:
    attributes = node.attributes(**CONV)
    spatial = len(x.shape) - 2
    if spatial not in (1, 2):
        raise node.unsupported(
            f"input must have 3 or 4 dimensions (1-D or 2-D convolution), not {len(x.shape)}: {x.shape}"
        )
    if weights.values.ndim != spatial + 2:
        raise node.error(f"weights must have {spatial + 2} dimensions, not shape {weights.values.shape}")
    groups, outputs = attributes["group"], len(weights.values)
    if groups < 1 or x.shape[1] % groups or outputs % groups:
        raise node.error(
            f"attribute 'group' must divide {x.shape[1]} input and {outputs} output channels, not {groups}"
        )
    if weights.values.shape[1] * groups != x.shape[1]:
        raise node.error(f"weights must be for {x.shape[1] // groups} input channels, not {weights.values.shape[1]}")
    shape = geometry(node, attributes, x.shape[2:], weights.values.shape[2:])
    values = weights.values if spatial == 2 else weights.values[:, :, np.newaxis, :]
    dims, view = bind_image(node, x, outputs, shape.size)
    return _sum(node, x, Weights(values, weights.scale), shape, dims, view, layers, groups)


def _product(node: Node, x: Quantized, weights: Weights, attributes: dict[str, Any], layers: Layers) -> PendingConv:
    """Gemm without its bias: alpha is a factor of the scale, as in ONNX Runtime's QGemm."""
    alpha = np.float32(attributes["alpha"])
    if not np.isfinite(alpha):
        raise node.unsupported(f"attribute 'alpha' must be a finite number, not {alpha}")
    x = replace(x, view=x.view.transpose([1, 0])) if attributes["transA"] else x
    values = weights.values.T if attributes["transB"] else weights.values
    total = _multiply(node, x, Weights(-values if alpha < 0 else values, weights.scale), layers)
    with np.errstate(over="ignore", under="ignore"):
        return replace(total, x_scale=np.abs(alpha) * total.x_scale)


def _multiply_left(node: Node, weights: Weights, x: Quantized, layers: Layers) -> PendingConv:
    """Weights [M, K] times x [..., K, N], as the transposed of the transposed x times the transposed weights."""
    if weights.values.ndim < 2:
        raise node.unsupported(f"weights must be a matrix, not of shape {weights.values.shape}")
    rank = len(x.shape)
    order = [*range(rank - 2), rank - 1, rank - 2] if rank > 1 else [0]
    turned = Weights(weights.values.swapaxes(-1, -2), weights.scale)
    total = _multiply(node, replace(x, view=x.view.transpose(order)), turned, layers)
    extra = len(total.shape) - rank
    return replace(total, view=total.view.transpose([*range(extra), *(extra + axis for axis in order)]))


def _multiply(node: Node, x: Quantized, weights: Weights, layers: Layers) -> PendingConv:
    """x [..., K] times weights [K, O], which may have axes of size 1 before."""
    *leading, features, outputs = (1, 1, *weights.values.shape)
    if weights.values.ndim < 2 or set(leading) != {1}:
        raise node.unsupported(f"weights must be a matrix, not of shape {weights.values.shape}")
    if not x.shape or x.shape[-1] != features:
        raise node.unsupported(f"weights must have {x.shape[-1] if x.shape else 1} rows, not {features}")
    extra = max(weights.values.ndim - max(len(x.shape), 2), 0)
    if is_over_pixels(x):
        return _mixed(node, x, Weights(weights.values.reshape(features, outputs), weights.scale), extra, layers)
    order, dims, view = bind_rows(node, x, outputs)
    # `order` lists the K axis as (role, size), outermost first; the array wants channels, height, width.
    values = weights.values.reshape(*(size for _, size in order), outputs)
    kept = {role: i for i, (role, _) in enumerate(order)}
    values = np.transpose(values, [len(order), *(kept[role] for role in sorted(kept))])
    sizes = dict(order)
    values = np.ascontiguousarray(values).reshape(outputs, *(sizes.get(role, 1) for role in (1, 2, 3)))
    view = View(((),) * extra + view.axes)
    return _sum(node, x, Weights(values, weights.scale), Geometry(), dims, view, layers)


def _mixed(node: Node, x: Quantized, weights: Weights, extra: int, layers: Layers) -> PendingConv:
    """x [..., K] times weights [K, O] where K is all pixels of an image: of each channel O sums over them."""
    dims, view, kernel = bind_pixels(x, weights.values.shape[1])
    values = weights.values.T.reshape(-1, 1, *kernel)
    groups = dims[1] // len(values)
    if groups * values.size > LARGEST_MIX:
        raise node.unsupported(f"products along pixels must be at most {LARGEST_MIX}, not {groups * values.size}")
    scale = np.tile(weights.scale, groups) if weights.scale.ndim else weights.scale
    view = View(((),) * extra + view.axes)
    return _sum(node, x, Weights(np.tile(values, (groups, 1, 1, 1)), scale), Geometry(), dims, view, layers, groups)


def _sum(
    node: Node,
    x: Quantized,
    weights: Weights,
    shape: Geometry,
    dims: tuple[int, int, int, int],
    view: View,
    layers: Layers,
    groups: int = 1,
) -> PendingConv:
    scale = x.array.scale
    assert scale is not None
    count = len(weights.values)
    if weights.scale.ndim and len(weights.scale) != count:
        raise node.error(f"weights must have one scale or one for each of {count} outputs, not {len(weights.scale)}")
    array, values = narrowed(node.proto.output[0], x.array, weights.values, groups, layers)
    layer = Conv(
        node.name,
        node.op,
        array.name,
        "",
        values,
        np.zeros(count, np.int32),
        np.ones(count, np.float32),
        shape.stride,
        shape.dilation,
        shape.pads,
        groups,
        macs_of=None if array is x.array else weights.values.size * dims[2] * dims[3],
    )
    return PendingConv(node, layer, scale, weights.scale, dims, view)


def activation(node: Node, tensor: Tensor | None, position: int) -> Quantized:
    """The 8-bit tensor behind an input that must be its DequantizeLinear."""
    if not isinstance(tensor, Dequantized):
        raise node.unsupported(f"input {position} must be a dequantized 8-bit tensor, not {describe(tensor)}")
    return tensor.quantized


def dequantized(node: Node, tensor: Tensor | None, axis: int) -> Weights:
    """Weights behind a DequantizeLinear, whose scales may lie along `axis`."""
    if not isinstance(tensor, DequantizedConstant):
        raise node.unsupported(f"weights must be a dequantized int8 constant, not {describe(tensor)}")
    axis += tensor.values.ndim if axis < 0 else 0
    if tensor.scale.ndim and tensor.axis != axis:
        raise node.unsupported(f"weights must have their scales along the output axis {axis}, not along {tensor.axis}")
    return _weights(node, tensor.values, tensor.scale, tensor.zero_point, axis)


def _weights(node: Node, values: NDArray, scale: NDArray[np.float32], zero_point: NDArray, axis: int) -> Weights:
    """int8 or uint8 weights without their zero point (one, or one for each index of `axis`)."""
    if values.dtype not in (np.int8, np.uint8):
        raise node.unsupported(f"weights must be int8 or uint8, not {values.dtype}")
    if not values.size:
        raise node.unsupported(f"weights must have at least one element, not shape {values.shape}")
    if zero_point.dtype != values.dtype:
        raise node.error(f"weights of {values.dtype} must have a zero point of that type, not {zero_point.dtype}")
    if zero_point.size not in (1, scale.size):
        raise node.error(
            f"weights must have one zero point or one for each of {scale.size} scales, not {zero_point.size}"
        )
    if zero_point.size > 1 and zero_point.size not in values.shape[axis : axis + 1]:
        raise node.error(
            f"weights of shape {values.shape} must have one zero point or one for each index of axis {axis}"
        )
    along = [-1 if i == axis and zero_point.size > 1 else 1 for i in range(values.ndim)]
    if (bad := ~(np.isfinite(scale) & (scale >= 0))).any():
        raise node.unsupported(f"weights must have finite scales of at least 0, not {scale[bad].flat[0]:.6g}")
    return Weights(values.astype(np.int16) - zero_point.reshape(along), scale)


def _quantized_operands(
    node: Node, inputs: list[Tensor | None], names: tuple[str, str], axis: int
) -> tuple[Quantized, Weights, tuple[NDArray, NDArray], Tensor | None]:
    """Inputs of a QOperator node: activation, weights, (scale, zero point) of the output, and the bias.

    `names` are those of activation and weights, `axis` is the outputs' of the weights.
    """
    x_name, w_name = names
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias = (*inputs, None)[:9]
    if not isinstance(x, Quantized):
        raise node.unsupported(f"input '{x_name}' must be an int8 or uint8 tensor, not {describe(x)}")
    x_zero_point = constant(node, x_zero, f"{x_name}_zero_point")
    if x_zero_point.dtype != x.dtype:
        raise node.error(f"input '{x_name}_zero_point' must be {x.dtype} as '{x_name}' is, not {x_zero_point.dtype}")
    x_scales = scale_of(node, x_scale, f"{x_name}_scale")
    x.array.agree(node, *activation_parameters(node, x_scales, x_zero_point))
    values = constant(node, w, w_name)
    if values.ndim <= axis:
        raise node.unsupported(f"weights must have more than {axis} dimensions, not shape {values.shape}")
    scales = scale_of(node, w_scale, f"{w_name}_scale")
    weights = _weights(node, values, scales, constant(node, w_zero, f"{w_name}_zero_point"), axis)
    scale, zero_point = scale_of(node, y_scale, "y_scale"), constant(node, y_zero, "y_zero_point")
    return x, weights, (scale, zero_point), bias


def _requantized(node: Node, total: PendingConv, scale: NDArray, zero_point: NDArray, layers: Layers) -> Quantized:
    y_scale, y_zero_point = activation_parameters(node, scale, zero_point)
    return emit(total, y_scale, y_zero_point, zero_point.dtype, node.proto.output[0], layers)


def _require_rank(node: Node, tensor: Tensor | None, rank: int) -> None:
    if tensor is not None and len(tensor.shape) != rank:
        raise node.error(f"input must have {rank} dimensions, not shape {tensor.shape}")
