"""Images: which axis of an ONNX tensor is batch, channels, height and width, for operators that move whole axes."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import permutations

from systolith.compiler.frontend.model.node import Node
from systolith.compiler.frontend.values.array import Array, Layers, Roles, image_roles
from systolith.compiler.frontend.values.tensors import Dequantized, Quantized, Tensor, describe
from systolith.compiler.frontend.values.views import Atom, View, merge, split, strided
from systolith.compiler.ir.graph import Dims, Inside, Layer

__all__ = ["Image", "images", "quantized_part", "rebased", "roles_of", "same_kind"]

ONE = Atom(1, 1)
PREFERRED = {4: ((0, 1, 2, 3), (0, 2, 3, 1)), 3: ((0, 1, 3), (0, 3, 1)), 2: ((0, 1), (3, 1)), 1: ((1,),), 0: ()}


@dataclass(frozen=True)
class Image:
    """A quantized tensor whose axis i is role `order[i]` of (batch, channels, height, width); `dims` are its sizes."""

    x: Quantized
    dims: Dims
    order: tuple[int, ...]

    @property
    def array(self) -> Array:
        return self.x.array

    def role(self, node: Node, axis: int) -> int:
        """The role of an axis, which may be negative."""
        rank = len(self.order)
        if not -rank <= axis < rank:
            raise node.error(f"attribute 'axis' must be from {-rank} to {rank - 1}, not {axis}")
        return self.order[axis]

    def resized(self, role: int, size: int) -> Dims:
        """Its dims with another size."""
        batch, channels, height, width = (size if i == role else n for i, n in enumerate(self.dims))
        return batch, channels, height, width

    def view(self, dims: Dims) -> View:
        """A row-major array of other dims, with axes in the order of this one."""
        roles = image_roles(dims)
        return View(tuple(merge([roles[role]]) for role in self.order))

    def makes(self, layers: Layers, layer: Layer | None, name: str, dims: Dims) -> Quantized:
        """What a layer makes that moves elements of this tensor."""
        array = self.array.moved(name, dims)
        layers.append((layer, array))
        return Quantized(array, self.view(dims), self.x.dtype)

    def cut(self, layers: Layers, name: str, dims: Dims, inside: Inside) -> Quantized:
        """A part of this tensor, which is only read."""
        array = self.array.part(name, dims, inside)
        layers.append((None, array))
        return Quantized(array, self.view(dims), self.x.dtype)


def images(node: Node, tensors: Iterable[Quantized]) -> list[Image]:
    """The tensors as images with their axes in one order. Raises UnsupportedError where there is none."""
    tensors = list(tensors)
    ranks = {len(x.shape) for x in tensors}
    if len(ranks) != 1:
        raise node.error(f"inputs must have the same number of dimensions, not {' and '.join(map(str, sorted(ranks)))}")
    rank = ranks.pop()
    if rank > 4:
        raise node.unsupported(f"input must have at most 4 dimensions here, not shape {tensors[0].shape}")
    all_roles = [roles_of(node, x) for x in tensors]
    for order in (*PREFERRED[rank], *permutations(range(4), rank)):
        if all(_fits(x.view, roles, order) for x, roles in zip(tensors, all_roles, strict=True)):
            return [Image(x, _sizes(roles), order) for x, roles in zip(tensors, all_roles, strict=True)]
    raise node.unsupported("axes must be batch, channels, height and width of a tensor; the Reshape before moves data")


def rebased(node: Node, x: Quantized) -> tuple[Dims, View]:
    """Dims of the array behind a tensor, and its view of another, row-major, array of those dims."""
    roles = roles_of(node, x)
    dims = _sizes(roles)
    moved = image_roles(dims)
    axes = []
    for axis in x.view.axes:
        pieces = split(axis, [role for role in roles if role.size > 1])
        if pieces is None:
            raise node.unsupported("input must be a view of the tensor before it; this Reshape or Transpose moves data")
        atoms = []
        for atom in pieces:
            role = next(i for i, r in enumerate(roles) if r.size > 1 and r.stride <= atom.stride < r.end)
            atoms.append(Atom(atom.size, atom.stride // roles[role].stride * moved[role].stride))
        axes.append(merge(atoms))
    return dims, View(tuple(axes))


def quantized_part(node: Node, tensor: Tensor | None) -> Quantized:
    """The 8-bit tensor of an input that is one, or its DequantizeLinear."""
    match tensor:
        case Dequantized():
            return tensor.quantized
        case Quantized():
            return tensor
    raise node.unsupported(f"input must be an 8-bit tensor or its DequantizeLinear, not {describe(tensor)}")


def same_kind(tensor: Tensor | None, result: Quantized) -> Quantized | Dequantized:
    """The result for an input: dequantized if that one is."""
    return Dequantized(result) if isinstance(tensor, Dequantized) else result


def roles_of(node: Node, x: Quantized) -> Roles:
    """Roles of the array behind a tensor. A network input that has none takes those of its number of axes."""
    if x.array.roles is None:
        plain = len(x.shape) in PREFERRED and all(len(axis) < 2 for axis in x.view.axes)
        x.array.bind(node, _usual(node, x.view if plain else strided(x.array.shape)))
    assert x.array.roles is not None
    return x.array.roles


def _usual(node: Node, view: View) -> Roles:
    atoms = [axis[0] if axis else ONE for axis in view.axes]
    match atoms:
        case [batch, channels, height, width]:
            return batch, channels, height, width
        case [batch, channels, width]:
            return batch, channels, ONE, width
        case [width, channels]:
            return ONE, channels, ONE, width
        case [channels]:
            return ONE, channels, ONE, ONE
    raise node.unsupported(f"input must have 1 to 4 dimensions, not shape {view.shape}")


def _fits(view: View, roles: Roles, order: tuple[int, ...]) -> bool:
    """Whether axis i of the view is all of role order[i], and nothing is left."""
    shown = all(axis == merge([roles[role]]) for axis, role in zip(view.axes, order, strict=True))
    return shown and all(role.size == 1 for i, role in enumerate(roles) if i not in order)


def _sizes(roles: Roles) -> Dims:
    batch, channels, height, width = (role.size for role in roles)
    return batch, channels, height, width
