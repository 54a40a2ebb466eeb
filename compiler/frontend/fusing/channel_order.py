"""Channel shuffle: a layer that selects channels in the order that Reshape and Transpose gave them.

Reshapes and Transposes only change a tensor's view. The next node that reads more than the view gets a tensor whose
channels are in order. So only the view between two such nodes matters, and two shuffles that cancel cost nothing.
"""

from itertools import product

from systolith.compiler.frontend.fusing.image_of_channels import spread
from systolith.compiler.frontend.model.node import Node
from systolith.compiler.frontend.values.array import Layers, image_roles
from systolith.compiler.frontend.values.images import roles_of
from systolith.compiler.frontend.values.tensors import Dequantized, Quantized, Tensor
from systolith.compiler.frontend.values.views import Atom, Axis, View, merge, split
from systolith.compiler.ir.graph import Select

__all__ = ["settled"]

CHANNELS = 1


def settled(node: Node, tensor: Tensor, name: str, layers: Layers) -> Tensor:
    """The tensor called `name`, with its channels in order; an image if the node reads one."""
    match tensor:
        case Quantized():
            return _in_order(node, spread(node, tensor, name, layers), name, layers)
        case Dequantized():
            return Dequantized(_in_order(node, spread(node, tensor.quantized, name, layers), name, layers))
    return tensor


def _in_order(node: Node, x: Quantized, name: str, layers: Layers) -> Quantized:
    if all(len(axis) < 2 for axis in x.view.axes):
        return x
    roles = roles_of(node, x)
    axes = [split(axis, [role for role in roles if role.size > 1]) for axis in x.view.axes]
    cut = [axis for axis in axes if axis is not None]
    channel = roles[CHANNELS]
    pieces = [atom for axis in cut for atom in axis if channel.size > 1 and channel.stride <= atom.stride < channel.end]
    shuffled = [atom.stride for atom in pieces] != sorted((atom.stride for atom in pieces), reverse=True)
    if len(cut) < len(axes) or not shuffled:
        return x
    batch, channels, height, width = (role.size for role in roles)
    dims = batch, channels, height, width
    array = x.array.moved(f"{name}:channels", dims)
    order = tuple(
        sum(index * (atom.stride // channel.stride) for index, atom in zip(indices, pieces, strict=True))
        for indices in product(*(range(atom.size) for atom in pieces))
    )
    layers.append((Select(array.name, "Transpose", x.array.name, array.name, order), array))
    return Quantized(array, View(tuple(_moved(axis, roles, pieces, image_roles(dims)) for axis in cut)), x.dtype)


def _moved(axis: Axis, roles: tuple[Atom, ...], pieces: list[Atom], moved: tuple[Atom, ...]) -> Axis:
    """The axis in the array whose channels are in the order of `pieces`."""
    atoms = []
    for atom in axis:
        role = next(i for i, r in enumerate(roles) if r.size > 1 and r.stride <= atom.stride < r.end)
        step = atom.stride // roles[role].stride
        if role == CHANNELS:
            step = 1
            for other in pieces[pieces.index(atom) + 1 :]:
                step *= other.size
        atoms.append(Atom(atom.size, step * moved[role].stride))
    return merge(atoms)
