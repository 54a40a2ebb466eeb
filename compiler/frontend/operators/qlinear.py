"""Quantized operators of com.microsoft that have scales and zero points as inputs: elementwise ones and pools."""

from typing import Any

import numpy as np
from onnx import helper

from systolith.compiler.frontend.fusing.binary import combined
from systolith.compiler.frontend.fusing.finish import emit
from systolith.compiler.frontend.fusing.table import node_table
from systolith.compiler.frontend.model.node import Node
from systolith.compiler.frontend.operators.elementwise import elementwise
from systolith.compiler.frontend.operators.pool import WINDOW, average_pool, global_average_pool
from systolith.compiler.frontend.operators.quantize_linear import activation_parameters, constant, scale_of
from systolith.compiler.frontend.values.array import Layers
from systolith.compiler.frontend.values.tensors import (
    Constant,
    Dequantized,
    DequantizedConstant,
    Function,
    PendingConv,
    PendingSfu,
    Quantized,
    Tensor,
    describe,
    viewed,
)
from systolith.compiler.ir.graph import SfuOp

__all__ = ["qlinear_average_pool", "qlinear_binary", "qlinear_global_average_pool", "qlinear_unary"]


def qlinear_binary(node: Node, inputs: list[Tensor | None], layers: Layers) -> Quantized:
    """QLinearAdd and QLinearMul; one operand may be a constant."""
    node.attributes()
    a, b = _operand(node, inputs, 0, "A"), _operand(node, inputs, 3, "B")
    if isinstance(a, Dequantized) and isinstance(b, Dequantized):
        return _finished(node, combined(node, a, b, layers), inputs[6:], "C", layers)
    variable, fixed = (a, b) if isinstance(a, Dequantized) else (b, a)
    if not isinstance(variable, Dequantized):
        raise node.unsupported("inputs 'A' and 'B' must not both be constants")
    if np.prod(fixed.shape) == 1 and len(fixed.shape) <= len(variable.shape):
        return _table(node, variable.quantized, 0 if variable is a else 3, inputs, inputs[6:], "C", layers)
    proto = helper.make_node(node.op.removeprefix("QLinear"), ["A", "B"], list(node.proto.output), node.name)
    total = elementwise(Node(proto, node.where, node.opset, node.notes), [a, b], layers)
    assert isinstance(total, PendingConv | PendingSfu | Function)
    return _finished(node, total, inputs[6:], "C", layers)


def qlinear_unary(node: Node, inputs: list[Tensor | None], layers: Layers) -> Quantized:
    """QLinearSigmoid and QLinearLeakyRelu."""
    node.attributes(**({"alpha": 0.01} if node.op == "QLinearLeakyRelu" else {}))
    x = _operand(node, inputs, 0, "X")
    if not isinstance(x, Dequantized):
        raise node.unsupported("input 'X' must not be a constant")
    if None in (*inputs, *(None,) * 5)[:5]:
        raise node.error("all zero points must be there: without one ONNX Runtime ends the process")
    return _table(node, x.quantized, 0, inputs, inputs[3:], "Y", layers)


def qlinear_average_pool(node: Node, inputs: list[Tensor | None], layers: Layers) -> Quantized:
    """QLinearAveragePool; channels may be the last axis."""
    window = {name: value for name, value in WINDOW.items() if name != "dilations"}
    return _pool(node, inputs, {**window, "count_include_pad": 0}, layers)


def qlinear_global_average_pool(node: Node, inputs: list[Tensor | None], layers: Layers) -> Quantized:
    """QLinearGlobalAveragePool; channels may be the last axis."""
    return _pool(node, inputs, {}, layers)


def _pool(node: Node, inputs: list[Tensor | None], known: dict[str, Any], layers: Layers) -> Quantized:
    """The pool without its scales, between the Transposes that bring channels to the front and back."""
    attributes = node.attributes(**known, channels_last=0)
    x = _operand(node, inputs, 0, "X")
    if not isinstance(x, Dequantized):
        raise node.unsupported("input 'X' must not be a constant")
    rank = len(x.shape)
    last = attributes.pop("channels_last")
    if last:
        x = viewed(x, x.view.transpose([0, rank - 1, *range(1, rank - 1)]))
    given = {
        attribute.name: attributes[attribute.name] for attribute in node.proto.attribute if attribute.name in known
    }
    proto = helper.make_node(node.op.removeprefix("QLinear"), ["X"], list(node.proto.output), node.name, **given)
    inner = Node(proto, node.where, node.opset, node.notes)
    mean = average_pool(inner, [x], quantized=True) if known else global_average_pool(inner, [x])
    y = _finished(node, mean, inputs[3:], "Y", layers)
    return Quantized(y.array, y.view.transpose([0, *range(2, rank), 1]), y.dtype) if last else y


def _operand(node: Node, inputs: list[Tensor | None], position: int, name: str) -> Dequantized | DequantizedConstant:
    """The input at `position`, which scale and zero point follow."""
    x = inputs[position] if position < len(inputs) else None
    scale, zero_point = _parameters(node, inputs[position + 1 :], name, x)
    if isinstance(x, Constant):
        return DequantizedConstant(x.values, scale, zero_point, 0)
    if not isinstance(x, Quantized):
        raise node.error(f"input '{name}' must be an int8 or uint8 tensor, not {describe(x)}")
    if zero_point.dtype != x.dtype:
        raise node.error(f"input '{name}_zero_point' must be {x.dtype} as '{name}' is, not {zero_point.dtype}")
    x.array.agree(node, *activation_parameters(node, scale, zero_point))
    return Dequantized(x)


def _parameters(node: Node, inputs: list[Tensor | None], name: str, x: Tensor | None) -> tuple[np.ndarray, np.ndarray]:
    """Scale and zero point at the start of `inputs`; a zero point that is not there is 0 of the type of `x`."""
    scale_tensor, zero_tensor = (*inputs, None, None)[:2]
    scale = scale_of(node, scale_tensor, f"{name}_scale")
    if zero_tensor is not None:
        return scale, constant(node, zero_tensor, f"{name}_zero_point")
    kind = x.dtype if isinstance(x, Quantized) else x.values.dtype if isinstance(x, Constant) else np.dtype(np.uint8)
    return scale, np.zeros((), kind)


def _finished(
    node: Node, x: PendingConv | PendingSfu | Function, inputs: list[Tensor | None], name: str, layers: Layers
) -> Quantized:
    """The layer, with scale and zero point at the start of `inputs`."""
    scale, zero_point = _parameters(node, inputs, name, None)
    return emit(x, *activation_parameters(node, scale, zero_point), zero_point.dtype, node.proto.output[0], layers)


def _table(
    node: Node,
    x: Quantized,
    position: int,
    inputs: list[Tensor | None],
    parameters: list[Tensor | None],
    name: str,
    layers: Layers,
) -> Quantized:
    """The operator as a table of `x`, the input at `position`."""
    scale, zero_point = _parameters(node, parameters, name, x)
    y_scale, y_zero_point = activation_parameters(node, scale, zero_point)
    constants = [y.values if isinstance(y, Constant) else None for y in inputs]
    table = node_table(node, x, position, constants)
    array = x.array.same(node.proto.output[0], zero_point.dtype, y_scale, y_zero_point)
    layers.append((SfuOp(node.name, node.op, x.array.name, array.name, table=table), array))
    return Quantized(array, x.view, zero_point.dtype)
