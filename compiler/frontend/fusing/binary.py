"""Addition, subtraction and multiplication of two quantized tensors."""

import numpy as np

from systolith.compiler.frontend.fusing.broadcast import match
from systolith.compiler.frontend.model.node import Node
from systolith.compiler.frontend.values.array import Layers
from systolith.compiler.frontend.values.tensors import Dequantized, PendingSfu
from systolith.compiler.ir.graph import SfuOp

__all__ = ["SIGNS", "combined"]

SIGNS = {"Add": (1, 1), "Sub": (1, -1), "Mul": None, "Sum": (1, 1), "QLinearAdd": (1, 1), "QLinearMul": None}
"""Operators of two tensors: the signs of what they add, None where they multiply."""


def combined(node: Node, first: Dequantized, second: Dequantized, layers: Layers) -> PendingSfu:
    """The two tensors added or multiplied, before quantization."""
    if node.op not in SIGNS:
        raise node.unsupported("one input must be a constant: only Add, Sub, Sum and Mul take two tensors")
    pair, signs = match(node, first.quantized, second.quantized, layers), SIGNS[node.op]
    if signs and pair.swapped:
        signs = signs[::-1]
    scales = np.float32(pair.whole.scale), np.float32(pair.other.scale)
    layer = SfuOp(node.name, node.op, pair.whole.name, "")
    return PendingSfu(node, layer, pair.whole, pair.view, scales, pair.other, signs)
