"""Weights that without their zero point do not fit int8: as the sum of two or three that do.

x * (a + b) is [x, x] * [a, b], with the input's channels twice. Only the QOperator form needs it: no quantizer writes
such weights in the QDQ form.
"""

import numpy as np
from numpy.typing import NDArray
from onnx import helper

from systolith.compiler.frontend.concat import concat
from systolith.compiler.frontend.node import Node
from systolith.compiler.frontend.tensors import Layers, Quantized

__all__ = ["fits", "narrowed"]


def fits(weights: NDArray[np.int16]) -> bool:
    """Whether all weights are int8."""
    return not weights.size or bool(weights.min() >= -128 and weights.max() <= 127)


def narrowed(
    node: Node, x: Quantized, weights: NDArray[np.int16], axes: tuple[int, int], layers: Layers
) -> tuple[Quantized, NDArray[np.int16]]:
    """The input several times along `axes[0]`, and weights that fit int8, one after the other along `axes[1]`."""
    count = 2
    while not fits(parts := np.concatenate([(weights + i) // count for i in range(count)], axes[1])):
        count += 1
    name = f"{node.proto.output[0]}:{count}"
    proto = helper.make_node("Concat", [""] * count, [name], f"{node.name}:{count}", axis=axes[0])
    y = concat(Node(proto, node.where, node.opset, node.notes), [x] * count, layers)
    assert isinstance(y, Quantized)
    return y, parts
