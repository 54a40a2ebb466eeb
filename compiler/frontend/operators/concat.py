"""Concat and QLinearConcat: one tensor after the other, each brought to the output's scale first."""

from collections.abc import Sequence

import numpy as np

from systolith.compiler.frontend.fusing.requantize import join, join_as_is
from systolith.compiler.frontend.model.node import Node
from systolith.compiler.frontend.operators.quantize_linear import activation_parameters, constant, scale_of
from systolith.compiler.frontend.values.array import Layers
from systolith.compiler.frontend.values.images import images, quantized_part
from systolith.compiler.frontend.values.tensors import Dequantized, PendingConcat, Quantized, Tensor, describe

__all__ = ["concat", "qlinear_concat"]


def concat(node: Node, inputs: list[Tensor | None], layers: Layers) -> Tensor:
    """Concat of 8-bit tensors, or of dequantized ones, which waits for its QuantizeLinear if their scales differ."""
    if len({type(x) for x in inputs}) > 1:
        raise node.unsupported(f"inputs must be of one kind, not {' and '.join(describe(x) for x in inputs)}")
    parts = [quantized_part(node, x) for x in inputs]
    joined = _joined(node, parts)
    first = next((part.array for part in parts if part.array.scale is not None), parts[0].array)
    if isinstance(inputs[0], Quantized):
        if len({x.dtype for x in parts}) > 1:
            raise node.error(f"inputs must be of one type, not {' and '.join(str(x.dtype) for x in parts)}")
        for part in parts:
            first.link(node, part.array)
        return join_as_is(joined, first.moved(node.proto.output[0], joined.dims), layers)
    if len({(x.array.scale, x.array.zero_point) for x in parts}) > 1:
        return joined
    return Dequantized(join_as_is(joined, first.moved(node.proto.output[0], joined.dims), layers))


def qlinear_concat(node: Node, inputs: list[Tensor | None], layers: Layers) -> Quantized:
    """QLinearConcat of com.microsoft: scale and zero point of the output, then tensor, scale and zero point of each."""
    if len(inputs) < 5 or len(inputs) % 3 != 2:
        raise node.error(f"must have inputs Y_scale, Y_zero_point and three for each tensor, not {len(inputs)}")
    zero_point = constant(node, inputs[1], "Y_zero_point")
    parameters = activation_parameters(node, scale_of(node, inputs[0], "Y_scale"), zero_point)
    parts = []
    for i in range(2, len(inputs), 3):
        x, zero = inputs[i], constant(node, inputs[i + 2], f"input {i + 2} (zero point)")
        if not isinstance(x, Quantized):
            raise node.unsupported(f"input {i} must be an int8 or uint8 tensor, not {describe(x)}")
        if not x.dtype == zero.dtype == zero_point.dtype:
            raise node.error(
                f"inputs must be of one type, {zero_point.dtype}, not {x.dtype} with a zero point of {zero.dtype}"
            )
        scale = scale_of(node, inputs[i + 1], f"input {i + 1} (scale)")
        x.array.agree(node, *activation_parameters(node, scale, zero))
        parts.append(x)
    return join(_joined(node, parts), *parameters, zero_point.dtype, node.proto.output[0], layers)


def _joined(node: Node, parts: Sequence[Quantized]) -> PendingConcat:
    """The parts as they will be joined."""
    axis = node.attributes(axis=None)["axis"]
    if not isinstance(axis, int):
        raise node.error("attribute 'axis' must be an integer")
    oriented = images(node, parts)
    role = oriented[0].role(node, axis)
    for image in oriented:
        if image.resized(role, 1) != oriented[0].resized(role, 1):
            raise node.error(
                f"inputs must agree in all axes but {axis}, not {' and '.join(str(x.shape) for x in parts)}"
            )
    dims = oriented[0].resized(role, sum(image.dims[role] for image in oriented))
    return PendingConcat(node, tuple(parts), role, dims, oriented[0].view(dims))


def _parameters(node: Node, array) -> tuple[np.float32, int]:
    if array.scale is None or array.zero_point is None:
        raise node.unsupported("inputs must have a scale, from a DequantizeLinear before or after; none of them has")
    return array.scale, array.zero_point
