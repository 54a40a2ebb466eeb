"""Broadcast of two tensors that an operator takes element by element: which one is whole, which one is repeated."""

from dataclasses import dataclass

import numpy as np

from systolith.compiler.frontend.model.node import Node
from systolith.compiler.frontend.values.array import Array, Layers, image_roles
from systolith.compiler.frontend.values.images import rebased
from systolith.compiler.frontend.values.roles import bind_alike, restride
from systolith.compiler.frontend.values.tensors import Quantized
from systolith.compiler.frontend.values.views import View
from systolith.compiler.ir.graph import Conv

__all__ = ["Pair", "match"]

CHANNELS = 1


@dataclass(frozen=True, eq=False)
class Pair:
    """`whole` has the shape of the result, which `view` shows; `other` has it too, or height or width of 1.

    `swapped`: `whole` is the second operand.
    """

    whole: Array
    other: Array
    view: View
    swapped: bool


def match(node: Node, first: Quantized, second: Quantized, layers: Layers) -> Pair:
    """Operands of an operator with two inputs; one channel for all becomes as many. Raises UnsupportedError for what
    the accelerator cannot broadcast."""
    try:
        shape = np.broadcast_shapes(first.shape, second.shape)
    except ValueError:
        raise node.error(f"inputs must be broadcast to one shape, not {first.shape} and {second.shape}") from None
    swapped = _padded(first, len(shape)).shape != shape
    whole, other = (_padded(x, len(shape)) for x in ((second, first) if swapped else (first, second)))
    if whole.shape != shape:
        raise node.unsupported(f"one of the inputs must have the output's shape {shape}, not {first.shape} and "
                               f"{second.shape}")  # fmt: skip
    _bind(node, whole, other)
    if whole.array.roles is None:  # Nor has the other: a layer to come decides for both.
        return Pair(whole.array, other.array, whole.view, swapped)
    dims, view = rebased(node, whole)
    other_dims, other_view = rebased(node, other)
    other_view = restride(node, other_view, image_roles(other_dims), image_roles(dims))
    fits = all(a == b or (a == 1 and role > 0) for role, (a, b) in enumerate(zip(other_dims, dims, strict=True)))
    same = all(a in ((), b) for a, b in zip(other_view.axes, view.axes, strict=True))
    if not (fits and same):
        raise node.unsupported(
            f"inputs must have the same batch, and channels, height and width the same or 1, not {dims} and "
            f"{other_dims}, with their axes in the same places"
        )
    array = other.array
    if other_dims[CHANNELS] < dims[CHANNELS]:
        array = _for_channels(node, array, dims[CHANNELS], layers)
    return Pair(whole.array, array, whole.view, swapped)


def _for_channels(node: Node, x: Array, count: int, layers: Layers) -> Array:
    """The one channel `count` times, by a convolution with weights of 1: exact."""
    assert x.roles is not None and x.zero_point is not None
    batch, _, height, width = (role.size for role in x.roles)
    array = x.moved(f"{node.proto.output[0]}:channels", (batch, count, height, width))
    weights, bias = np.ones((count, 1, 1, 1), np.int8), np.zeros(count, np.int32)
    layer = Conv(array.name, node.op, x.name, array.name, weights, bias, np.ones(count, np.float32),
                 zero_point=x.zero_point, macs_of=0)  # fmt: skip
    layers.append((layer, array))
    return array


def _padded(x: Quantized, rank: int) -> Quantized:
    """The tensor with axes of size 1 before its own."""
    return Quantized(x.array, View(((),) * (rank - len(x.shape)) + x.view.axes), x.dtype)


def _bind(node: Node, whole: Quantized, other: Quantized) -> None:
    """Give network inputs among them roles: those of the other tensor, or the same ones, taken later."""
    if whole.array.roles is None and other.array.roles is None and whole.view == other.view:
        whole.array.join(other.array)
        return
    if whole.array.roles is None and other.array.roles is not None and whole.shape == other.shape:
        bind_alike(node, whole, other)
    rebased(node, whole)
    if other.array.roles is None:
        bind_alike(node, other, whole)
