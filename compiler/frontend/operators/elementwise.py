"""Elementwise operators. Of one tensor: a function, so a table. Of two: a sum or product. Of a layer: bias, limits."""

import numpy as np
from numpy.typing import NDArray

from systolith.compiler.frontend.fusing.affine import LINEAR, folded, gain_and_shift, scaled
from systolith.compiler.frontend.fusing.bias import add_constant
from systolith.compiler.frontend.fusing.binary import combined
from systolith.compiler.frontend.fusing.common_source import leaf_of, on_one_leaf
from systolith.compiler.frontend.fusing.limits import LIMITS, limited
from systolith.compiler.frontend.fusing.prelu import prelu
from systolith.compiler.frontend.model.node import Node
from systolith.compiler.frontend.values.array import Layers, Roles, image_roles
from systolith.compiler.frontend.values.images import rebased
from systolith.compiler.frontend.values.roles import per_channel
from systolith.compiler.frontend.values.tensors import (
    Constant,
    Dequantized,
    DequantizedConstant,
    Function,
    PendingConv,
    PendingSfu,
    Tensor,
    describe,
)
from systolith.compiler.frontend.values.views import View

__all__ = ["ELEMENTWISE", "elementwise"]

ELEMENTWISE = (
    "Abs", "Acos", "Acosh", "Add", "And", "Asin", "Asinh", "Atan", "Atanh", "BatchNormalization", "Cast", "Ceil",
    "Celu", "Clip", "Cos", "Cosh", "Div", "Elu", "Equal", "Erf", "Exp", "Floor", "Gelu", "Greater",
    "GreaterOrEqual", "HardSigmoid", "HardSwish", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Mean", "Min",
    "Mish", "Mul", "Neg", "Not", "Or", "PRelu", "Pow", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid",
    "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Swish", "Tan", "Tanh", "ThresholdedRelu",
    "Where", "Xor",
    "FastGelu", "QuickGelu",
)  # fmt: skip

Fixed = Constant | DequantizedConstant


def elementwise(node: Node, inputs: list[Tensor | None], layers: Layers) -> Tensor:
    """The result of one of these operators, before its QuantizeLinear."""
    inputs = on_one_leaf(inputs)
    tensors = [x for x in inputs if x is not None and not isinstance(x, Fixed)]
    match tensors:
        case [PendingConv() as x]:
            return _of_layer(node, x, inputs)
        case [PendingSfu()] if node.op in LIMITS:
            return limited(node, inputs)
        case [Dequantized() as first, Dequantized() as second] if not _same(first, second) or first.view != second.view:
            return combined(node, first, second, layers)
        case [Dequantized() as x] if node.op == "Mul" and (product := _product(node, x, inputs)):
            return product
        case [Dequantized() as x] if node.op == "PRelu" and (slopes := _for_channels(node, x, inputs)) is not None:
            return prelu(node, x, slopes, layers)
        case [Dequantized() | Function(), *rest] if all(isinstance(x, Dequantized | Function) for x in rest):
            return _function(node, [x for x in tensors if isinstance(x, Dequantized | Function)], inputs)
    raise node.unsupported(
        f"inputs must be constants and DequantizeLinear of 8-bit tensors, not {' and '.join(map(describe, inputs))}"
    )


def _of_layer(node: Node, x: PendingConv, inputs: list[Tensor | None]) -> PendingConv | PendingSfu:
    """The operator taken into the layer before it."""
    if node.op in LIMITS:
        return limited(node, inputs)
    if node.op not in LINEAR:
        raise node.unsupported(f"a QuantizeLinear must stand between it and {x.node.op} '{x.node.name}'")
    if node.op == "Add":
        (constant,) = (y for y in inputs if isinstance(y, Fixed))
        return add_constant(node, x, constant)
    constants = [_constant(node, y, x.view, image_roles(x.dims)) for y in inputs]
    return folded(node, x, *gain_and_shift(node, inputs.index(x), constants))


def _product(node: Node, x: Dequantized, inputs: list[Tensor | None]) -> PendingConv | None:
    """A tensor times integers for each channel, if they are weights; None otherwise."""
    (constant,) = (y for y in inputs if y is not x)
    if not isinstance(constant, DequantizedConstant) or constant.scale.ndim or constant.values.size < 2:
        return None
    if len(constant.shape) > len(x.shape) or np.abs(constant.whole).max() > 127:
        return None
    rebased(node, x.quantized)
    roles = x.quantized.array.roles
    assert roles is not None
    return scaled(node, x, per_channel(node, x.view, roles, constant.whole), constant.scale)


def _for_channels(node: Node, x: Dequantized, inputs: list[Tensor | None]) -> NDArray | None:
    """The constant of a node with two inputs, if it is one for each channel."""
    (constant,) = (y for y in inputs if y is not x)
    if constant is None or np.prod(constant.shape) == 1 or len(constant.shape) > len(x.shape):
        return None
    rebased(node, x.quantized)
    return _constant(node, constant, x.view, x.quantized.array.roles)


def _function(node: Node, variable: list[Dequantized | Function], inputs: list[Tensor | None]) -> Function:
    first = variable[0]
    leaf = leaf_of(first)
    if any(not _same(leaf, leaf_of(x)) for x in variable):
        raise node.unsupported("inputs that are no constants must be functions of one quantized tensor")
    if any(x.view != first.view for x in variable):
        shapes = [x.shape for x in variable]
        raise node.unsupported(f"inputs that are no constants must have one shape and order of axes, not {shapes}")
    rank = max(len(x.shape) for x in inputs if x is not None)
    view = View(((),) * (rank - len(first.shape)) + first.view.axes)
    roles = leaf.quantized.array.roles
    if node.op == "BatchNormalization" or any(isinstance(x, Fixed) and np.prod(x.shape) > 1 for x in inputs):
        rebased(node, leaf.quantized)
        roles = leaf.quantized.array.roles
    arguments = tuple(x if isinstance(x, Dequantized | Function) else _constant(node, x, view, roles) for x in inputs)
    return Function(node, leaf, arguments, view)


def _constant(node: Node, x: Tensor | None, view: View, roles: Roles | None) -> NDArray | None:
    """One value, or one for each channel; None where there is none, or a tensor."""
    if not isinstance(x, Fixed):
        return None
    values = x.real if isinstance(x, DequantizedConstant) else x.values
    if values.size == 1:
        return values.reshape(())
    assert roles is not None
    if node.op == "BatchNormalization":
        values = values.reshape(-1, *(1,) * (len(view.axes) - 2))
    return per_channel(node, view, roles, values)


def _same(first: Dequantized, second: Dequantized) -> bool:
    """Whether both are the same elements, in an order that the views tell."""
    return first.quantized.array is second.quantized.array
