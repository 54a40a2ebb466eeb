"""Conv, MatMul and Gemm in both their forms: each becomes the sum of a layer on the array."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from systolith.compiler.ir import Conv, Value
from systolith.compiler.onnx_bias import with_bias
from systolith.compiler.onnx_geometry import Geometry, geometry
from systolith.compiler.onnx_node import Node
from systolith.compiler.onnx_quantize import activation_parameters, constant, emit, scale_of
from systolith.compiler.onnx_roles import bind_image, bind_rows
from systolith.compiler.onnx_tensors import DequantizedConstant, Quantized, Real, Sum, Tensor, describe
from systolith.compiler.onnx_views import View

__all__ = ["conv", "gemm", "matmul", "qgemm", "qlinear_conv", "qlinear_matmul"]

CONV = {"auto_pad": "NOTSET", "dilations": (), "group": 1, "kernel_shape": (), "pads": (), "strides": ()}
GEMM = {"alpha": 1.0, "transA": 0, "transB": 0}


@dataclass(frozen=True, eq=False)
class _Weights:
    """Symmetric int8 weights and their scale, a scalar or one for each output."""

    values: NDArray[np.int8]
    scale: NDArray[np.float32]


def conv(node: Node, inputs: list[Tensor | None]) -> Sum:
    """Conv between DequantizeLinear and QuantizeLinear."""
    x, weights, bias = (*inputs, None)[:3]
    return _convolve(node, _activation(node, x, 0), _dequantized(node, weights, 0), bias)


def qlinear_conv(node: Node, inputs: list[Tensor | None], layers: list[tuple[Conv, Value]]) -> Quantized:
    """QLinearConv: convolution and requantization."""
    x, weights, (scale, zero_point), bias = _quantized_operands(node, inputs, "x", "w", 0)
    return _requantized(node, _convolve(node, x, weights, bias), scale, zero_point, layers)


def matmul(node: Node, inputs: list[Tensor | None]) -> Sum:
    """MatMul of a dequantized tensor with constant weights."""
    node.attributes()
    return _multiply(node, _activation(node, inputs[0], 0), _dequantized(node, inputs[1], 1), None)


def qlinear_matmul(node: Node, inputs: list[Tensor | None], layers: list[tuple[Conv, Value]]) -> Quantized:
    """QLinearMatMul with constant second operand."""
    node.attributes()
    x, weights, (scale, zero_point), _ = _quantized_operands(node, inputs, "a", "b", 1)
    return _requantized(node, _multiply(node, x, weights, None), scale, zero_point, layers)


def gemm(node: Node, inputs: list[Tensor | None]) -> Sum:
    """Gemm of a dequantized matrix with constant weights."""
    attributes = node.attributes(**GEMM, beta=1.0)
    node.require(attributes, alpha=1.0, beta=1.0, transA=0)
    transposed = _transposed(node, attributes["transB"])
    x, weights, bias = (*inputs, None)[:3]
    _require_rank(node, x, 2)
    dequantized = _dequantized(node, weights, 0 if transposed else 1)
    return _multiply(node, _activation(node, x, 0), _turned(dequantized, transposed), bias)


def qgemm(node: Node, inputs: list[Tensor | None], layers: list[tuple[Conv, Value]]) -> Quantized:
    """QGemm of com.microsoft with quantized output, as ONNX Runtime's quantizer writes Gemm."""
    attributes = node.attributes(**GEMM)
    node.require(attributes, alpha=1.0, transA=0)
    transposed = _transposed(node, attributes["transB"])
    operands = (*inputs, None, None, None)[:9]
    if operands[7] is None or operands[8] is None:
        raise node.error("inputs 'y_scale' and 'y_zero_point' must be there; a float32 output is not supported")
    _require_rank(node, operands[0], 2)
    reordered = [*operands[:6], *operands[7:9], operands[6]]
    x, weights, (scale, zero_point), bias = _quantized_operands(node, reordered, "A", "B", 0 if transposed else 1)
    total = _multiply(node, x, _turned(weights, transposed), bias)
    return _requantized(node, total, scale, zero_point, layers)


def _convolve(node: Node, x: Quantized, weights: _Weights, bias: Tensor | None) -> Sum:
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
    return _sum(node, x, _Weights(values, weights.scale), shape, dims, view, bias, groups)


def _multiply(node: Node, x: Quantized, weights: _Weights, bias: Tensor | None) -> Sum:
    """x [..., K] times weights [K, O]."""
    if weights.values.ndim != 2:
        raise node.error(f"weights must be a matrix, not of shape {weights.values.shape}")
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
    return _sum(node, x, _Weights(values, weights.scale), Geometry(), dims, view, bias)


def _sum(
    node: Node,
    x: Quantized,
    weights: _Weights,
    shape: Geometry,
    dims: tuple[int, int, int, int],
    view: View,
    bias: Tensor | None,
    groups: int = 1,
) -> Sum:
    scale = x.array.scale
    assert scale is not None
    count = len(weights.values)
    if weights.scale.ndim and len(weights.scale) != count:
        raise node.error(f"weights must have one scale or one for each of {count} outputs, not {len(weights.scale)}")
    layer = Conv(
        node.name,
        node.op,
        x.array.name,
        "",
        np.ascontiguousarray(weights.values),
        np.zeros(count, np.int32),
        np.ones(count, np.float32),
        shape.stride,
        shape.dilation,
        shape.pads,
        groups,
    )
    total = Sum(node, layer, scale, weights.scale, dims, view)
    return total if bias is None else with_bias(node, total, bias)


def _activation(node: Node, tensor: Tensor | None, position: int) -> Quantized:
    if not isinstance(tensor, Real):
        raise node.error(f"input {position} must be a dequantized 8-bit tensor, not {describe(tensor)}")
    return tensor.quantized


def _dequantized(node: Node, tensor: Tensor | None, axis: int) -> _Weights:
    """Weights behind a DequantizeLinear."""
    if not isinstance(tensor, DequantizedConstant):
        raise node.error(f"weights must be a dequantized int8 constant, not {describe(tensor)}")
    if tensor.scale.ndim and tensor.axis != axis:
        raise node.error(f"weights must have their scales along the output axis {axis}, not along {tensor.axis}")
    return _symmetric(node, tensor.values, tensor.scale, tensor.zero_point)


def _symmetric(node: Node, values: NDArray, scale: NDArray, zero_point: NDArray) -> _Weights:
    """int8 weights with zero point 0, or uint8 weights with zero point 128, which are the same."""
    if values.dtype not in (np.int8, np.uint8):
        raise node.error(f"weights must be int8 or uint8, not {values.dtype}")
    if zero_point.dtype != values.dtype:
        raise node.error(f"weights of {values.dtype} must have a zero point of that type, not {zero_point.dtype}")
    if zero_point.size not in (1, scale.size):
        raise node.error(
            f"weights must have one zero point or one for each of {scale.size} scales, not {zero_point.size}"
        )
    expected = 128 if values.dtype == np.uint8 else 0
    if (zero_point != expected).any():
        bad = zero_point[zero_point != expected].flat[0]
        raise node.error(f"weights of {values.dtype} must have zero point {expected}, not {bad}")
    return _Weights((values ^ np.uint8(expected)).view(np.int8) if expected else values, scale)


def _quantized_operands(
    node: Node, inputs: list[Tensor | None], x_name: str, w_name: str, axis: int
) -> tuple[Quantized, _Weights, tuple[NDArray, NDArray], Tensor | None]:
    """Inputs of a QOperator node: activation, weights, (scale, zero point) of the output, and the bias."""
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias = (*inputs, None)[:9]
    if not isinstance(x, Quantized):
        raise node.error(f"input '{x_name}' must be an int8 or uint8 tensor, not {describe(x)}")
    x_zero_point = constant(node, x_zero, f"{x_name}_zero_point")
    if x_zero_point.dtype != x.dtype:
        raise node.error(f"input '{x_name}_zero_point' must be {x.dtype} as '{x_name}' is, not {x_zero_point.dtype}")
    x_scales = scale_of(node, x_scale, f"{x_name}_scale")
    x.array.agree(node, *activation_parameters(node, x_scales, x_zero_point))
    values = constant(node, w, w_name)
    if values.ndim <= axis:
        raise node.error(f"weights must have more than {axis} dimensions, not shape {values.shape}")
    weights = _symmetric(
        node, values, scale_of(node, w_scale, f"{w_name}_scale"), constant(node, w_zero, f"{w_name}_zero_point")
    )
    scale, zero_point = scale_of(node, y_scale, "y_scale"), constant(node, y_zero, "y_zero_point")
    return x, weights, (scale, zero_point), bias


def _requantized(
    node: Node, total: Sum, scale: NDArray, zero_point: NDArray, layers: list[tuple[Conv, Value]]
) -> Quantized:
    y_scale, y_zero_point = activation_parameters(node, scale, zero_point)
    return emit(total, y_scale, y_zero_point, zero_point.dtype, node.proto.output[0], layers)


def _transposed(node: Node, value: int) -> bool:
    if value not in (0, 1):
        raise node.error(f"attribute 'transB' must be 0 or 1, not {value}")
    return bool(value)


def _turned(weights: _Weights, transposed: bool) -> _Weights:
    return _Weights(weights.values.T, weights.scale) if transposed else weights


def _require_rank(node: Node, tensor: Tensor | None, rank: int) -> None:
    if tensor is not None and len(tensor.shape) != rank:
        raise node.error(f"input must have {rank} dimensions, not shape {tensor.shape}")
