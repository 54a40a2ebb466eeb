"""Proof that no accumulator overflows int32, from the weights, the bias and the range of the input."""

from math import prod

import numpy as np

from systolith.compiler.ir.graph import Conv, Graph, SfuOp
from systolith.errors import UnsupportedError

__all__ = ["prove_accumulators"]

LIMIT = 2**31 - 1


def prove_accumulators(graph: Graph) -> Graph:
    """The graph itself, if no sum of any layer can leave int32 for any input. Raises UnsupportedError naming the layer.

    Holds for every partial sum in any order, for sums of raw inputs (as the array makes them, with the zero point
    folded into the bias) and of inputs minus the zero point (as ONNX defines them), and for the bias itself.
    """
    for layer in graph.layers:
        match layer:
            case Conv():
                worst = int(_largest(layer, graph.values[layer.input].zero_point).max())
                terms = f"weights of {layer.weights[0].size} products and bias"
            case SfuOp(reduce="average"):
                terms = f"windows of {prod(layer.window.kernel)}"
                worst = 255 * prod(layer.window.kernel)
            case _:
                continue
        if worst > LIMIT:
            raise UnsupportedError(
                f"{layer.op} '{layer.name}': sums must fit int32 for every input; they can reach {worst} ({terms})",
                layer.output,
            )
    return graph


def _largest(layer: Conv, zero_point: int) -> np.ndarray:
    """Largest magnitude of any sum of each output channel, int64."""
    weights = layer.weights.reshape(len(layer.weights), -1)
    positive = np.maximum(weights, 0).sum(axis=1, dtype=np.int64)
    negative = np.minimum(weights, 0).sum(axis=1, dtype=np.int64)
    bias = layer.bias.astype(np.int64)
    low, high = -128 - zero_point, 127 - zero_point
    # The zero point is an int8, so low <= 0 <= high: every subset of terms stays within these.
    highest = positive * high + negative * low + np.maximum(bias, 0)
    lowest = positive * low + negative * high + np.minimum(bias, 0)
    raw = 128 * (positive - negative)
    folded = np.abs(bias - zero_point * (positive + negative))
    return np.max([highest, -lowest, raw, folded], axis=0)
