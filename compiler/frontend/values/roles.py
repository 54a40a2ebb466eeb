"""Roles of axes (batch, channels, height, width): decided by the layer that reads a tensor."""

from math import prod

import numpy as np
from numpy.typing import NDArray

from systolith.compiler.frontend.model.node import Node
from systolith.compiler.frontend.values.array import Roles, image_roles
from systolith.compiler.frontend.values.tensors import Quantized
from systolith.compiler.frontend.values.views import Atom, Axis, View, merge, split, strided
from systolith.compiler.ir.graph import Dims

__all__ = ["bind_alike", "bind_image", "bind_pixels", "bind_rows", "is_over_pixels", "per_channel", "restride"]

ONE = Atom(1, 1)
CHANNELS = 1


def bind_image(node: Node, x: Quantized, outputs: int, size: tuple[int, int]) -> tuple[tuple[int, int, int, int], View]:
    """Read `x` [N, C, H, W] or [N, C, L] as an image; dims of an output of that `size`, and its view."""
    atoms = [_single(node, axis) for axis in x.view.axes]
    batch, channels, *spatial = atoms
    height, width = spatial if len(spatial) == 2 else (ONE, spatial[0])
    x.array.bind(node, (batch, channels, height, width))
    dims = (batch.size, outputs, *size)
    shape = dims if len(spatial) == 2 else (batch.size, outputs, size[1])
    return dims, strided(shape)


def bind_rows(node: Node, x: Quantized, outputs: int) -> tuple[list[tuple[int, int]], tuple[int, int, int, int], View]:
    """Read `x` [..., K] as rows of K.

    Gives the order of K as (role, size), outermost first; the output's dims; and the output's view [..., outputs].
    A matrix that is a network input becomes one image whose pixels are its rows; an input [N, H, W, K] keeps its height
    and width. Where a layer has made `x`, K must be its channels, or its channels with height, width or both, which are
    then the kernel.
    """
    leading, inner = x.view.axes[:-1], x.view.axes[-1]
    if x.array.roles is None:
        x.array.bind(node, _row_roles(node, x, leading, inner))
    roles = x.array.roles
    assert roles is not None
    order = _order(node, roles, inner)
    kernel = {role for role, _ in order}
    batch, _, height, width = (1 if i in kernel else role.size for i, role in enumerate(roles))
    dims = (batch, outputs, height, width)
    moved = image_roles(dims)
    axes = [merge(_move(atom, roles, moved) for atom in _cut(node, axis, roles)) for axis in leading]
    return order, dims, View((*axes, merge([moved[CHANNELS]])))


def is_over_pixels(x: Quantized) -> bool:
    """Whether the last axis of `x` is all pixels of an image of several channels, and each other axis all of batch or
    channels."""
    if x.array.roles is None:
        return False
    batch, channels, *pixels = x.array.roles
    *leading, inner = x.view.axes
    known = (merge([batch]), merge([channels]), ())
    return channels.size > 1 and bool(inner) and inner == merge(pixels) and all(axis in known for axis in leading)


def bind_pixels(x: Quantized, outputs: int) -> tuple[Dims, View, tuple[int, int]]:
    """Read `x` [..., K] with K as in `is_over_pixels`: dims of `outputs` sums for each channel, side by side, their
    view [..., outputs], and the kernel."""
    assert x.array.roles is not None
    batch, channels, height, width = x.array.roles
    dims = batch.size, channels.size * outputs, 1, 1
    moved = {
        merge([batch]): merge([image_roles(dims)[0]]),
        merge([channels]): merge([Atom(channels.size, outputs)]),
        (): (),
    }
    axes = (*(moved[axis] for axis in x.view.axes[:-1]), merge([Atom(outputs, 1)]))
    return dims, View(axes), (height.size, width.size)


def _row_roles(node: Node, x: Quantized, leading: tuple[Axis, ...], inner: Axis) -> Roles:
    own = strided(x.array.shape).axes
    if (
        len(own) == 4
        and inner == own[-1]
        and merge(atom for axis in leading for atom in axis) == merge(atom for axis in own[:-1] for atom in axis)
    ):
        batch, height, width, channels = (axis[0] if axis else ONE for axis in own)
        return batch, channels, height, width
    rows = merge(atom for axis in leading for atom in axis)
    if len(rows) > 3:
        raise node.unsupported("input has more axes than a view can merge; put a smaller Transpose before it")
    batch, height, width = (*(ONE,) * (3 - len(rows)), *rows)
    return batch, _single(node, inner), height, width


def _order(node: Node, roles: Roles, inner: Axis) -> list[tuple[int, int]]:
    """The roles that K consists of."""
    order: list[tuple[int, int]] = []
    for atom in _cut(node, inner, roles):
        role = _role(atom, roles)
        if order and order[-1][0] == role:
            order[-1] = (role, order[-1][1] * atom.size)
        else:
            order.append((role, atom.size))
    found = [role for role, _ in order]
    whole = all(size == roles[role].size for role, size in order) and len(set(found)) == len(found)
    if not whole or 0 in found or (roles[CHANNELS].size > 1 and CHANNELS not in found):
        raise node.unsupported(
            "the last axis of the input must be all channels of a tensor (with or without all of its "
            f"height and width), not another part of it: {prod(size for _, size in order)} elements"
        )
    return order


def _move(atom: Atom, roles: Roles, moved: Roles) -> Atom:
    """The same part of the same role in an array of other dims."""
    role = _role(atom, roles)
    return Atom(atom.size, atom.stride // roles[role].stride * moved[role].stride)


def _cut(node: Node, axis: Axis, roles: Roles) -> Axis:
    pieces = split(axis, [role for role in roles if role.size > 1])
    if pieces is None:
        raise node.unsupported("input must be a view of the tensor before it; this Reshape or Transpose moves data")
    return pieces


def _role(atom: Atom, roles: Roles) -> int:
    return next(i for i, role in enumerate(roles) if role.size > 1 and role.stride <= atom.stride < role.end)


def _single(node: Node, axis: Axis) -> Atom:
    if len(axis) > 1:
        raise node.unsupported("input must be a view of the tensor before it; this Reshape or Transpose moves data")
    return axis[0] if axis else ONE


def restride(node: Node, view: View, roles: Roles, moved: Roles) -> View:
    """A view of an array of those roles, as the same view of an array that has them as `moved`."""
    return View(tuple(merge(_move(atom, roles, moved) for atom in _cut(node, axis, roles)) for axis in view.axes))


def bind_alike(node: Node, x: Quantized, other: Quantized) -> None:
    """Give the array of `x` roles so that it lies as `other`, whose roles are known and whose shape it can have."""
    roles = other.array.roles
    assert roles is not None
    found = [ONE] * 4
    axes = ((),) * (len(other.shape) - len(x.shape)) + x.view.axes
    for axis, whole in zip(axes, other.view.axes, strict=True):
        if not axis:
            continue
        inner = _single(node, axis)
        for atom in reversed(_cut(node, whole, roles)):
            role = _role(atom, roles)
            if atom != roles[role]:
                raise node.unsupported("inputs must have batch, channels, height and width in the same places")
            found[role] = Atom(atom.size, inner.stride)
            inner = Atom(inner.size // atom.size, inner.stride * atom.size)
    batch, channels, height, width = found
    x.array.bind(node, (batch, channels, height, width))


def per_channel(node: Node, view: View, roles: Roles, values: NDArray) -> NDArray:
    """A constant that is broadcast over a view, as its one value or as one for each channel (1-D)."""
    if values.size == 1 and values.ndim <= len(view.axes):
        return values.reshape(())
    channel = roles[CHANNELS]
    parts = View(tuple(
        axis if all(channel.stride <= atom.stride < channel.end for atom in axis) else () for axis in view.axes
    ))  # fmt: skip
    padded = (1,) * (len(parts.shape) - values.ndim) + values.shape
    fits = len(padded) == len(parts.shape) and all(n in (1, e) for n, e in zip(padded, parts.shape, strict=True))
    if not fits or prod(parts.shape) != channel.size:
        raise node.unsupported(
            f"a constant must be one number, or one for each channel {parts.shape}, not {values.shape}"
        )
    result = np.empty(channel.size, values.dtype)
    result[parts.places() // channel.stride] = np.broadcast_to(values.reshape(padded), parts.shape)
    return result
