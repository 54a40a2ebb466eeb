"""Views: how the axes of an ONNX tensor lie in the array behind it, so that Reshape and Transpose cost nothing.

An atom is `size` steps of `stride` elements in the flat row-major array; an axis of a tensor is some atoms, outermost
first, and none if its size is 1. Example, as size x stride, of an array (4, 6):

    the array itself (4, 6)            4 x 6 | 6 x 1
    Reshape to (4, 2, 3)               4 x 6 | 2 x 3 | 3 x 1
    Transpose to (2, 4, 3)             2 x 3 | 4 x 6 | 3 x 1
    Reshape to (8, 3)                  2 x 3, 4 x 6 | 3 x 1
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

__all__ = ["Atom", "Axis", "View", "merge", "split", "strided"]


@dataclass(frozen=True)
class Atom:
    """`size` elements, `stride` apart."""

    size: int
    stride: int

    @property
    def end(self) -> int:
        """Stride of the axis around it in a row-major array."""
        return self.size * self.stride


Axis = tuple[Atom, ...]


@dataclass(frozen=True)
class View:
    """A tensor as axes of the array behind it."""

    axes: tuple[Axis, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(prod(atom.size for atom in axis) for axis in self.axes)

    def places(self) -> NDArray[np.int64]:
        """Where each element of the tensor is in the flat array."""
        places = np.zeros((), np.int64)
        for axis in self.axes:
            steps = np.zeros((), np.int64)
            for atom in axis:
                steps = np.add.outer(steps, np.arange(atom.size) * atom.stride)
            places = np.add.outer(places, steps.reshape(-1))
        return places

    def transpose(self, order: Iterable[int]) -> "View":
        return View(tuple(self.axes[i] for i in order))

    def reshape(self, shape: Iterable[int]) -> "View | None":
        """The view of another shape, None where that is not only a change of view."""
        atoms = list(merge(atom for axis in self.axes for atom in axis))[::-1]
        axes = [_take(atoms, size) for size in shape]
        if atoms or None in axes:
            return None
        return View(tuple(merge(axis) for axis in axes if axis is not None))


def strided(shape: Iterable[int]) -> View:
    """The view of a row-major array itself."""
    sizes = tuple(shape)
    return View(tuple(merge([Atom(size, prod(sizes[i + 1 :]))]) for i, size in enumerate(sizes)))


def merge(atoms: Iterable[Atom]) -> Axis:
    """The same elements in as few atoms as possible."""
    merged: list[Atom] = []
    for atom in atoms:
        if atom.size == 1:
            continue
        if merged and merged[-1].stride == atom.end:
            atom = Atom(merged.pop().size * atom.size, atom.stride)
        merged.append(atom)
    return tuple(merged)


def split(axis: Axis, parts: Iterable[Atom]) -> Axis | None:
    """The axis cut where `parts` of the array end, so that each atom lies in one part. None if that is impossible."""
    parts, pieces = list(parts), []
    for atom in reversed(axis):
        while atom.size > 1:
            around = next((part for part in parts if part.stride <= atom.stride < part.end), None)
            if around is None or around.end % atom.stride:
                return None
            size = min(atom.size, around.end // atom.stride)
            if atom.size % size:
                return None
            pieces.append(Atom(size, atom.stride))
            atom = Atom(atom.size // size, atom.stride * size)
    return tuple(reversed(pieces))


def _take(atoms: list[Atom], size: int) -> list[Atom] | None:
    """Atoms for an axis of `size`, removed from the end of `atoms` (a stack, outermost on top)."""
    taken = []
    while size > 1:
        if not atoms:
            return None
        atom = atoms.pop()
        if atom.size > size and atom.size % size == 0:
            atoms.append(Atom(atom.size // size, atom.stride))
            atom = Atom(size, atom.stride * (atom.size // size))
        if size % atom.size:
            return None
        taken.append(atom)
        size //= atom.size
    return taken
