"""Conv, MatMul and Gemm in both their forms: each becomes the sum of a layer on the array."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from systolith.compiler.frontend.array import Layers
from systolith.compiler.frontend.bias import with_bias
from systolith.compiler.frontend.emit import emit
from systolith.compiler.frontend.geometry import Geometry, geometry
from systolith.compiler.frontend.node import Node
from systolith.compiler.frontend.quantize import activation_parameters, constant, scale_of
from systolith.compiler.frontend.roles import bind_image, bind_rows
from systolith.compiler.frontend.tensors import DequantizedConstant, Quantized, Real, Sum, Tensor, describe
from systolith.compiler.frontend.views import View
from systolith.compiler.frontend.wide import narrowed
from systolith.compiler.ir import Conv

__all__ = ["Weights", "activation", "conv", "dequantized", "gemm", "matmul", "qgemm", "qlinear_conv", "qlinear_matmul"]

CONV = {"auto_pad": "NOTSET", "dilations": (), "group": 1, "kernel_shape": (), "pads": (), "strides": ()}
GEMM = {"alpha": 1.0, "transA": 0, "transB": 0}


@dataclass(frozen=True, eq=False)
class Weights:
    """Weights without their zero point, and their scale, a scalar or one for each output."""

    values: NDArray[np.int16]
    scale: NDArray[np.float32]


def conv(node: Node, inputs: list[Tensor | None], layers: Layers) -> Sum:
    """Conv between DequantizeLinear and QuantizeLinear."""
    x, weights, bias = (*inputs, None)[:3]
    return _convolve(node, activation(node, x, 0), dequantized(node, weights, 0), bias, layers)


def qlinear_conv(node: Node, inputs: list[Tensor | None], layers: Layers) -> Quantized:
    """QLinearConv: convolution and requantization."""
    x, weights, (scale, zero_point), bias = _quantized_operands(node, inputs, ("x", "w"), 0)
    return _requantized(node, _convolve(node, x, weights, bias, layers), scale, zero_point, layers)


def matmul(node: Node, inputs: list[Tensor | None], layers: Layers) -> Sum:
    """MatMul of a dequantized tensor with constant weights."""
    node.attributes()
    return _multiply(node, activation(node, inputs[0], 0), dequantized(node, inputs[1], 1), None, layers)


def qlinear_matmul(node: Node, inputs: list[Tensor | None], layers: Layers) -> Quantized:
    """QLinearMatMul with constant second operand."""
    node.attributes()
    x, weights, (scale, zero_point), _ = _quantized_operands(node, inputs, ("a", "b"), 1)
    return _requantized(node, _multiply(node, x, weights, None, layers), scale, zero_point, layers)


def gemm(node: Node, inputs: list[Tensor | None], layers: Layers) -> Sum:
    """Gemm of a dequantized matrix with constant weights."""
    attributes = node.attributes(**GEMM, beta=1.0)
    node.require(attributes, alpha=1.0, beta=1.0, transA=0)
    transposed = _transposed(node, attributes["transB"])
    x, weights, bias = (*inputs, None)[:3]
    _require_rank(node, x, 2)
    kernel = dequantized(node, weights, 0 if transposed else 1)
    return _multiply(node, activation(node, x, 0), _turned(kernel, transposed), bias, layers)


def qgemm(node: Node, inputs: list[Tensor | None], layers: Layers) -> Quantized:
    """QGemm of com.microsoft with quantized output, as ONNX Runtime's quantizer writes Gemm."""
    attributes = node.attributes(**GEMM)
    node.require(attributes, alpha=1.0, transA=0)
    transposed = _transposed(node, attributes["transB"])
    operands = (*inputs, *(None,) * 9)[:9]
    if operands[7] is None or operands[8] is None:
        raise node.unsupported("inputs 'y_scale' and 'y_zero_point' must be there; a float32 output is not supported")
    _require_rank(node, operands[0], 2)
    reordered = [*operands[:6], *operands[7:9], operands[6]]
    axis = 0 if transposed else 1
    x, weights, (scale, zero_point), bias = _quantized_operands(node, reordered, ("A", "B"), axis)
    total = _multiply(node, x, _turned(weights, transposed), bias, layers)
    return _requantized(node, total, scale, zero_point, layers)


def _convolve(node: Node, x: Quantized, weights: Weights, bias: Tensor | None, layers: Layers) -> Sum:
    attributes = node.attributes(**CONV)
    spatial = len(x.shape) - 2
    if spatial not in (1, 2):
        raise node.error(f"input must have 3 or 4 dimensions (1-D or 2-D convolution), not {len(x.shape)}: {x.shape}")
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
    return _sum(node, x, Weights(values, weights.scale), shape, dims, view, bias, layers, groups)


def _multiply(node: Node, x: Quantized, weights: Weights, bias: Tensor | None, layers: Layers) -> Sum:
    """x [..., K] times weights [K, O]."""
    if weights.values.ndim != 2:
        raise node.unsupported(f"weights must be a matrix, not of shape {weights.values.shape}")
    features, outputs = weights.values.shape
    if not x.shape or x.shape[-1] != features:
        raise node.error(f"weights must have {x.shape[-1] if x.shape else 1} rows, not {features}")
    order, dims, view = bind_rows(node, x, outputs)
    # `order` lists the K axis as (role, size), outermost first; the array wants channels, height, width.
    values = weights.values.reshape(*(size for _, size in order), outputs)
    kept = {role: i for i, (role, _) in enumerate(order)}
    values = np.transpose(values, [len(order), *(kept[role] for role in sorted(kept))])
    sizes = dict(order)
    values = np.ascontiguousarray(values).reshape(outputs, *(sizes.get(role, 1) for role in (1, 2, 3)))
    return _sum(node, x, Weights(values, weights.scale), Geometry(), dims, view, bias, layers)


def _sum(
    node: Node,
    x: Quantized,
    weights: Weights,
    shape: Geometry,
    dims: tuple[int, int, int, int],
    view: View,
    bias: Tensor | None,
    layers: Layers,
    groups: int = 1,
) -> Sum:
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
    total = Sum(node, layer, scale, weights.scale, dims, view)
    return total if bias is None else with_bias(node, total, bias)


def activation(node: Node, tensor: Tensor | None, position: int) -> Quantized:
    """The 8-bit tensor behind an input that must be its DequantizeLinear."""
    if not isinstance(tensor, Real):
        raise node.unsupported(f"input {position} must be a dequantized 8-bit tensor, not {describe(tensor)}")
    return tensor.quantized


def dequantized(node: Node, tensor: Tensor | None, axis: int) -> Weights:
    """Weights behind a DequantizeLinear."""
    if not isinstance(tensor, DequantizedConstant):
        raise node.unsupported(f"weights must be a dequantized int8 constant, not {describe(tensor)}")
    if tensor.scale.ndim and tensor.axis != axis:
        raise node.unsupported(f"weights must have their scales along the output axis {axis}, not along {tensor.axis}")
    return Weights(_whole(node, tensor.values, tensor.scale, tensor.zero_point, axis), tensor.scale)


def _whole(
    node: Node, values: NDArray, scale: NDArray[np.float32], zero_point: NDArray, axis: int
) -> NDArray[np.int16]:
    """int8 or uint8 weights without their zero point (one, or one for each index of `axis`)."""
    if values.dtype not in (np.int8, np.uint8):
        raise node.unsupported(f"weights must be int8 or uint8, not {values.dtype}")
    if not values.size:
        raise node.error(f"weights must have at least one element, not shape {values.shape}")
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
    return values.astype(np.int16) - zero_point.reshape(along)


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
        raise node.error(f"weights must have more than {axis} dimensions, not shape {values.shape}")
    scales = scale_of(node, w_scale, f"{w_name}_scale")
    weights = Weights(_whole(node, values, scales, constant(node, w_zero, f"{w_name}_zero_point"), axis), scales)
    scale, zero_point = scale_of(node, y_scale, "y_scale"), constant(node, y_zero, "y_zero_point")
    return x, weights, (scale, zero_point), bias


def _requantized(node: Node, total: Sum, scale: NDArray, zero_point: NDArray, layers: Layers) -> Quantized:
    y_scale, y_zero_point = activation_parameters(node, scale, zero_point)
    return emit(total, y_scale, y_zero_point, zero_point.dtype, node.proto.output[0], layers)


def _transposed(node: Node, value: int) -> bool:
    if value not in (0, 1):
        raise node.error(f"attribute 'transB' must be 0 or 1, not {value}")
    return bool(value)


def _turned(weights: Weights, transposed: bool) -> Weights:
    return Weights(weights.values.T, weights.scale) if transposed else weights


def _require_rank(node: Node, tensor: Tensor | None, rank: int) -> None:
    if tensor is not None and len(tensor.shape) != rank:
        raise node.error(f"input must have {rank} dimensions, not shape {tensor.shape}")
