"""Two tensors that an operator takes element by element: which one is whole, and which is broadcast over it."""

from dataclasses import dataclass

import numpy as np

from systolith.compiler.frontend.images import rebased
from systolith.compiler.frontend.node import Node
from systolith.compiler.frontend.roles import bind_alike, restride
from systolith.compiler.frontend.tensors import Array, Quantized, image_roles
from systolith.compiler.frontend.views import View

__all__ = ["Pair", "match"]


@dataclass(frozen=True, eq=False)
class Pair:
    """`whole` has the shape of the result, which `view` shows; `other` has it too, or height or width of 1.

    `swapped`: `whole` is the second operand.
    """

    whole: Array
    other: Array
    view: View
    swapped: bool


def match(node: Node, first: Quantized, second: Quantized) -> Pair:
    """Operands of an operator with two inputs. Raises UnsupportedError for what the accelerator cannot broadcast."""
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
    if whole.array.roles is None:
        return Pair(whole.array, other.array, whole.view, swapped)
    dims, view = rebased(node, whole)
    other_dims, other_view = rebased(node, other)
    other_view = restride(node, other_view, image_roles(other_dims), image_roles(dims))
    fits = all(a == b or (a == 1 and role >= 2) for role, (a, b) in enumerate(zip(other_dims, dims, strict=True)))
    same = all(a in ((), b) for a, b in zip(other_view.axes, view.axes, strict=True))
    if not (fits and same):
        raise node.unsupported(
            f"inputs must have the same batch and channels, and height and width the same or 1, not {dims} and "
            f"{other_dims}, with their axes in the same places"
        )
    return Pair(whole.array, other.array, whole.view, swapped)


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
    if other.array.roles is None:
        rebased(node, whole)
        bind_alike(node, other, whole)
