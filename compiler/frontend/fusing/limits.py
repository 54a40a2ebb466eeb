"""Limits of a layer's output: Relu, Clip, and Min or Max with a constant, between the layer and its QuantizeLinear."""

from dataclasses import replace

import numpy as np

from systolith.compiler.frontend.model.node import Node
from systolith.compiler.frontend.values.tensors import (
    Constant,
    DequantizedConstant,
    PendingConv,
    PendingSfu,
    Tensor,
    describe,
)

__all__ = ["LIMITS", "limited"]

LIMITS = ("Clip", "Max", "Min", "Relu")
"""Operators that may be limits."""


def limited(node: Node, inputs: list[Tensor | None]) -> PendingConv | PendingSfu:
    """A layer's result behind one of these operators, whose other inputs are constants."""
    match node.op:
        case "Relu":
            return _relu(node, inputs)
        case "Clip":
            return _clip(node, inputs)
    return _extreme(node, inputs)


def _relu(node: Node, inputs: list[Tensor | None]) -> PendingConv | PendingSfu:
    """Relu of a layer's result."""
    node.attributes()
    return _limited(node, inputs[0], np.float32(0), None)


def _clip(node: Node, inputs: list[Tensor | None]) -> PendingConv | PendingSfu:
    """Clip of a layer's result; limits are attributes before opset 11, inputs since."""
    if node.opset < 11:
        limits = node.attributes(min=float(np.finfo(np.float32).min), max=float(np.finfo(np.float32).max))
        low, high = np.float32(limits["min"]), np.float32(limits["max"])
    else:
        node.attributes()
        low, high = (
            None if x is None else _bound(node, x, name)
            for x, name in zip((*inputs[1:], None, None)[:2], ("min", "max"), strict=True)
        )
    if low is not None and high is not None and not low <= high:
        raise node.unsupported(f"limits must be min <= max, not {low} and {high}")
    return _limited(node, inputs[0], low, high)


def _extreme(node: Node, inputs: list[Tensor | None]) -> PendingConv | PendingSfu:
    """Max or Min of a layer's result and constants."""
    node.attributes()
    (x,) = (y for y in inputs if isinstance(y, PendingConv | PendingSfu))
    bounds = [_bound(node, y, str(i)) for i, y in enumerate(inputs) if y is not None and y is not x]
    if any(y is not None and len(y.shape) > len(x.shape) for y in inputs):
        raise node.unsupported(f"constants must have at most the {len(x.shape)} axes of the result before them")
    if node.op == "Max":
        return _limited(node, x, max(bounds, default=None), None)
    return _limited(node, x, None, min(bounds, default=None))


def _bound(node: Node, tensor: Tensor, name: str) -> np.float32:
    if not isinstance(tensor, Constant | DequantizedConstant):
        raise node.unsupported(f"input '{name}' must be a constant, not {describe(tensor)}")
    values = tensor.real if isinstance(tensor, DequantizedConstant) else tensor.values
    if values.size != 1 or values.dtype != np.float32 or np.isnan(values).any():
        raise node.unsupported(
            f"input '{name}' must be one float32 number, not {values.dtype} of shape {values.shape}: "
            f"{values.reshape(-1)[:1]}"
        )
    return np.float32(values.reshape(-1)[0])


def _limited(node: Node, x: Tensor | None, low: np.float32 | None, high: np.float32 | None) -> PendingConv | PendingSfu:
    """The layer with its result clamped to [low, high] after whatever limits it had."""
    if not isinstance(x, PendingConv | PendingSfu):
        raise node.unsupported(f"input must be the result of a layer before its QuantizeLinear, not {describe(x)}")

    def clamp(bound: np.float32 | None) -> np.float32 | None:
        if bound is None:
            return None
        bound = bound if low is None else max(bound, low)
        return bound if high is None else min(bound, high)

    return replace(x, low=low if x.low is None else clamp(x.low), high=high if x.high is None else clamp(x.high))
