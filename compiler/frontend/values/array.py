"""Arrays: the int8 data behind quantized tensors. Layers make them; they become the values of the graph."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from systolith.compiler.frontend.model.node import Node
from systolith.compiler.frontend.values.views import Atom
from systolith.compiler.ir.graph import Dims, Inside, Layer, Value

if TYPE_CHECKING:
    from systolith.compiler.frontend.values.tensors import Function

__all__ = ["Array", "Layers", "Roles", "image_roles", "shift"]

Roles = tuple[Atom, Atom, Atom, Atom]


@dataclass(eq=False)
class Array:
    """The int8 array behind quantized tensors: a network input, or what a layer makes. It becomes an `ir.Value`.

    `roles` are batch, channels, height and width as atoms of the row-major array of `shape`; `dtype` is the 8-bit type
    it has in the model. A network input gets roles, type, scale and zero point from the first node that needs them, and
    every other one must agree; so must the arrays that only move its elements (`linked`). A part of another array has
    that one as `whole`, and where it lies there. One made element by element has the roles of the one it is `like`; if
    by a table, `function` is what is in that, with the scale and zero point of this one.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype | None = None
    scale: np.float32 | None = None
    zero_point: int | None = None
    own_roles: Roles | None = None
    whole: "Array | None" = None
    inside: Inside | None = None
    linked: list["Array"] = field(default_factory=list)
    like: "Array | None" = None
    function: "Function | None" = None

    @property
    def roles(self) -> Roles | None:
        return self._root().own_roles

    def same(self, name: str, dtype: np.dtype, scale: np.float32, zero_point: int) -> "Array":
        """An array of the same elements in the same places, of another type, scale and zero point."""
        return Array(name, self.shape, dtype, scale, zero_point, like=self)

    def join(self, other: "Array") -> None:
        """Have the same roles as another array of the same shape, now and later; neither has any yet."""
        mine, its = self._root(), other._root()
        if mine is not its:
            mine.like = its

    def _root(self) -> "Array":
        array = self
        while array.like is not None:
            array = array.like
        return array

    def moved(self, name: str, dims: Dims) -> "Array":
        """An array of the same type, scale and zero point for elements that a layer moves out of this one."""
        array = Array(name, dims, self.dtype, self.scale, self.zero_point, image_roles(dims), linked=self.linked)
        self.linked += [self, array] if not self.linked else [array]
        return array

    def part(self, name: str, dims: Dims, inside: Inside) -> "Array":
        """An array that lies inside this one."""
        array = self.moved(name, dims)
        array.whole, array.inside = self, inside
        return array

    def link(self, node: Node, other: "Array") -> None:
        """Give both the same scale and zero point, now or when one of them gets them."""
        if other.scale is not None and other.zero_point is not None:
            self.agree(node, other.scale, other.zero_point)
        elif self.scale is not None and self.zero_point is not None:
            other.agree(node, self.scale, self.zero_point)
        elif other is not self and other not in self.linked:
            together = [*(self.linked or [self]), *(other.linked or [other])]
            for array in together:
                array.linked = together

    def agree(self, node: Node, scale: np.float32, zero_point: int) -> None:
        """Take scale and zero point (int8 domain), or raise SystolithError if others were taken before."""
        if self.scale is None:
            for array in self.linked or [self]:
                array.scale, array.zero_point = scale, zero_point
        if (self.scale, self.zero_point) != (scale, zero_point):
            raise node.unsupported(
                f"input must have the scale {self.scale} and (as int8) zero point {self.zero_point} that "
                f"'{self.name}' was made with, not {scale} and {zero_point}"
            )

    def bind(self, node: Node, roles: Roles) -> None:
        """Take the roles of the axes, or raise SystolithError if others were taken before."""
        root = self._root()
        if root.own_roles is None:
            root.own_roles = roles
        if [_normal(role) for role in root.own_roles] != [_normal(role) for role in roles]:
            raise node.unsupported(
                f"input must have batch, channels, height and width as '{root.name}' has them; a Reshape or Transpose "
                "between layers that moves data is not supported"
            )

    def value(self) -> Value:
        """The IR's value; scale, zero point and roles must be known."""
        assert self.roles is not None and self.scale is not None and self.zero_point is not None
        batch, channels, height, width = (role.size for role in self.roles)
        return Value(self.name, (batch, channels, height, width), float(self.scale), self.zero_point, self.inside)


Layers = list[tuple[Layer | None, Array]]
"""Layers found so far, and the arrays that they make; no layer for a part that is only read."""


def _normal(role: Atom) -> Atom | None:
    return role if role.size > 1 else None


def image_roles(dims: Dims) -> Roles:
    """Batch, channels, height and width as atoms of a row-major array of those dims."""
    _, c, h, w = dims
    return Atom(dims[0], c * h * w), Atom(c, h * w), Atom(h, w), Atom(w, 1)


def shift(dtype: np.dtype) -> int:
    """What a value of that type has more than the int8 that carries it."""
    return 128 if dtype == np.uint8 else 0
