"""Relu and Clip between a layer and its QuantizeLinear: limits of the layer's output."""

from dataclasses import replace

import numpy as np

from systolith.compiler.frontend.node import Node
from systolith.compiler.frontend.tensors import Constant, Mapped, Sum, Tensor, describe

__all__ = ["clip", "relu"]


def relu(node: Node, inputs: list[Tensor | None]) -> Sum | Mapped:
    """Relu of a layer's result."""
    node.attributes()
    return _limited(node, inputs[0], np.float32(0), None)


def clip(node: Node, inputs: list[Tensor | None]) -> Sum | Mapped:
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


def _bound(node: Node, tensor: Tensor, name: str) -> np.float32:
    if not isinstance(tensor, Constant):
        raise node.unsupported(f"input '{name}' must be a constant, not {describe(tensor)}")
    values = tensor.values
    if values.size != 1 or values.dtype != np.float32 or np.isnan(values).any():
        raise node.unsupported(
            f"input '{name}' must be one float32 number, not {values.dtype} of shape {values.shape}: "
            f"{values.reshape(-1)[:1]}"
        )
    return np.float32(values.reshape(-1)[0])


def _limited(node: Node, x: Tensor | None, low: np.float32 | None, high: np.float32 | None) -> Sum | Mapped:
    """The layer with its result clamped to [low, high] after whatever limits it had."""
    if not isinstance(x, Sum | Mapped):
        raise node.unsupported(f"input must be the result of a layer before its QuantizeLinear, not {describe(x)}")

    def clamp(bound: np.float32 | None) -> np.float32 | None:
        if bound is None:
            return None
        bound = bound if low is None else max(bound, low)
        return bound if high is None else min(bound, high)

    return replace(x, low=low if x.low is None else clamp(x.low), high=high if x.high is None else clamp(x.high))
