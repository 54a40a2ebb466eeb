"""Relu and Clip between a layer and its QuantizeLinear: limits of the layer's output."""

from dataclasses import replace

import numpy as np

from systolith.compiler.onnx_node import Node
from systolith.compiler.onnx_quantize import constant
from systolith.compiler.onnx_tensors import Sum, Tensor, describe

__all__ = ["clip", "relu"]


def relu(node: Node, inputs: list[Tensor | None]) -> Sum:
    """Relu of a layer's result."""
    node.attributes()
    return _limited(node, inputs[0], np.float32(0), None)


def clip(node: Node, inputs: list[Tensor | None]) -> Sum:
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
        raise node.error(f"limits must be min <= max, not {low} and {high}")
    return _limited(node, inputs[0], low, high)


def _bound(node: Node, tensor: Tensor, name: str) -> np.float32:
    values = constant(node, tensor, name)
    if values.size != 1 or values.dtype != np.float32 or np.isnan(values).any():
        raise node.error(
            f"input '{name}' must be one float32 number, not {values.dtype} of shape {values.shape}: "
            f"{values.reshape(-1)[:1]}"
        )
    return np.float32(values.reshape(-1)[0])


def _limited(node: Node, x: Tensor | None, low: np.float32 | None, high: np.float32 | None) -> Sum:
    """The layer with its result clamped to [low, high] after whatever limits it had."""
    if not isinstance(x, Sum):
        raise node.error(f"input must be the result of a layer before its QuantizeLinear, not {describe(x)}")

    def clamp(bound: np.float32 | None) -> np.float32 | None:
        if bound is None:
            return None
        bound = bound if low is None else max(bound, low)
        return bound if high is None else min(bound, high)

    return replace(x, low=low if x.low is None else clamp(x.low), high=high if x.high is None else clamp(x.high))
