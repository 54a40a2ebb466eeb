"""Requantization of a tensor, DequantizeLinear then QuantizeLinear with other parameters: a table of 256 entries.

It also serves the inputs of a Concat.
"""

import numpy as np
from numpy.typing import NDArray

from systolith.compiler.frontend.model.node import Node
from systolith.compiler.frontend.values.array import Array, Layers, image_roles
from systolith.compiler.frontend.values.tensors import PendingConcat, Quantized
from systolith.compiler.ir.graph import Concat, SfuOp

__all__ = ["join", "join_as_is", "requantized", "rescaled"]


def requantized(
    node: Node, x: Quantized, scale: np.float32, zero_point: int, dtype: np.dtype, name: str, layers: Layers
) -> Quantized:
    """`x` with that scale, zero point (int8 domain) and type: itself, or the output `name` of a layer."""
    assert x.array.scale is not None and x.array.zero_point is not None
    if (x.array.scale, x.array.zero_point) == (scale, zero_point):
        return Quantized(x.array, x.view, dtype)
    table = rescaled(x.array.scale, x.array.zero_point, scale, zero_point)
    array = x.array.same(name, dtype, scale, zero_point)
    layers.append((SfuOp(name, node.op, x.array.name, name, table=table), array))
    return Quantized(array, x.view, dtype)


def join(x: PendingConcat, scale: np.float32, zero_point: int, dtype: np.dtype, name: str, layers: Layers) -> Quantized:
    """The parts, each with that scale and zero point, one after the other as `name`."""
    made: dict[str, str] = {}
    for i, part in enumerate(x.parts):
        if part.array.name not in made:
            again = requantized(x.node, part, scale, zero_point, dtype, f"{name}:{i}", layers)
            made[part.array.name] = again.array.name
    array = Array(name, x.dims, dtype, scale, zero_point, image_roles(x.dims))
    return _concatenated(x, tuple(made[part.array.name] for part in x.parts), array, dtype, layers)


def join_as_is(x: PendingConcat, array: Array, layers: Layers) -> Quantized:
    """The parts, which have the scale and zero point of `array`, one after the other as that one."""
    return _concatenated(x, tuple(part.array.name for part in x.parts), array, x.parts[0].dtype, layers)


def _concatenated(
    x: PendingConcat, inputs: tuple[str, ...], array: Array, dtype: np.dtype, layers: Layers
) -> Quantized:
    layers.append((Concat(x.node.name, x.node.op, inputs, array.name, x.axis), array))
    return Quantized(array, x.view, dtype)


def rescaled(x_scale: np.float32, x_zero: int, y_scale: np.float32, y_zero: int) -> NDArray[np.int8]:
    """The table: rint(((v - x_zero) * x_scale) / y_scale) + y_zero for each byte v, float32 at every step."""
    values = np.arange(256).astype(np.uint8).view(np.int8).astype(np.int32)
    with np.errstate(over="ignore"):
        rounded = np.rint((values - x_zero).astype(np.float32) * np.float32(x_scale) / np.float32(y_scale))
    return np.clip(np.clip(rounded, -512, 512) + y_zero, -128, 127).astype(np.int8)
