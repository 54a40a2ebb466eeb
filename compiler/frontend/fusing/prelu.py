"""PRelu with a slope for each channel: x + (slope - 1) * min(x, 0), a convolution of x and min(x, 0) side by side.

The two weights of a channel are whole numbers whose ratio is nearest to slope - 1. So the result is within one step of
ONNX Runtime, and nearly always equal to it.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from systolith.compiler.frontend.model.node import Node
from systolith.compiler.frontend.values.array import Layers
from systolith.compiler.frontend.values.images import rebased
from systolith.compiler.frontend.values.tensors import Dequantized, PendingConv
from systolith.compiler.ir.graph import Concat, Conv, SfuOp

__all__ = ["prelu"]

CHANNELS = 1
LARGEST = 127
"""Weight."""


def prelu(node: Node, x: Dequantized, slopes: NDArray, layers: Layers) -> PendingConv:
    """PRelu of a quantized tensor with `slopes` [C], before its QuantizeLinear."""
    array = x.quantized.array
    (batch, channels, height, width), view = rebased(node, x.quantized)
    assert array.scale is not None and array.zero_point is not None
    name = node.proto.output[0]
    low = array.same(f"{name}:low", x.quantized.dtype, array.scale, array.zero_point)
    layers.append((SfuOp(low.name, node.op, array.name, low.name, high=array.zero_point), low))
    both = array.moved(f"{name}:both", (batch, 2 * channels, height, width))
    layers.append((Concat(both.name, node.op, (array.name, low.name), both.name, CHANNELS), both))
    of_x, of_low, off = _ratios(node, slopes.astype(np.float64) - 1)
    weights = np.concatenate([np.diag(of_x), np.diag(of_low)], axis=1).astype(np.int8)[:, :, None, None]
    layer = Conv(node.name, node.op, both.name, "", np.ascontiguousarray(weights), np.zeros(channels, np.int32),
                 np.ones(channels, np.float32), macs_of=0)  # fmt: skip
    scale = (1 / of_x).astype(np.float32)
    total = PendingConv(node, layer, array.scale, scale, (batch, channels, height, width), view)
    return replace(total, rounding=off * (array.zero_point + 128))


def _ratios(node: Node, factors: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Of each factor: denominator and numerator, both weights, and how far the numerator is from the real one."""
    sizes = np.arange(1, LARGEST + 1)
    exact = factors[:, None] * sizes
    error = np.where(np.abs(np.rint(exact)) <= LARGEST, np.abs(exact - np.rint(exact)) / sizes, np.inf)
    best = np.argmin(error, axis=1)
    if (found := ~(np.abs(factors) <= LARGEST)).any():
        raise node.unsupported(f"slopes must be from {1 - LARGEST} to {1 + LARGEST}, not {factors[found][0] + 1}")
    chosen = np.arange(len(factors)), best
    return sizes[best], np.rint(exact[chosen]), np.abs(exact - np.rint(exact))[chosen]
