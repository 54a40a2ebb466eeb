"""Reshape of a vector to an image (channels, height, width), as decoders begin behind a Gemm.

For each pixel, its channels are selected and put there. The selections cost nothing, because the layer before makes its
channels in the order that the selections ask for.
"""

from itertools import product

from systolith.compiler.frontend.model.node import Node
from systolith.compiler.frontend.values.array import Layers
from systolith.compiler.frontend.values.tensors import Quantized
from systolith.compiler.frontend.values.views import Atom, strided
from systolith.compiler.ir.graph import Inside, Select, SfuOp

__all__ = ["spread"]

READERS = (
    "AveragePool", "Conv", "ConvTranspose", "DepthToSpace", "GlobalAveragePool", "GlobalMaxPool", "MaxPool", "Pad",
    "QLinearAveragePool", "QLinearConv", "QLinearGlobalAveragePool", "Resize",
)  # fmt: skip
"""Operators that need an image."""
LARGEST = 64
"""Pixels."""
CHANNELS = 1
ONE = Atom(1, 1)


def spread(node: Node, x: Quantized, name: str, layers: Layers) -> Quantized:
    """The tensor called `name`, as an image if it is not one but channels of one pixel that `node` reads as one."""
    roles = x.array.roles
    if node.op not in READERS or len(x.shape) not in (3, 4) or roles is None or roles[2].size * roles[3].size > 1:
        return x
    if any(len(axis) > 1 for axis in x.view.axes):
        return x
    channel, (_, *axes) = roles[CHANNELS], [axis[0] if axis else ONE for axis in x.view.axes]
    if any(atom.size > 1 and not channel.stride <= atom.stride < channel.end for atom in axes):
        return x
    batch, (count, *sizes) = x.shape[0], (atom.size for atom in axes)
    height, width = (1, *sizes)[-2:]
    if not 1 < height * width <= LARGEST or batch != roles[0].size or count * height * width != channel.size:
        return x
    first, *others = (atom.stride // channel.stride for atom in axes)
    step_y, step_x = (0, *others)[-2:]
    whole = x.array.moved(f"{name}:image", (batch, count, height, width))
    for top, left in product(range(height), range(width)):
        kept = tuple(i * first + top * step_y + left * step_x for i in range(count))
        chosen = x.array.moved(f"{whole.name}:{top}:{left}:channels", (batch, count, 1, 1))
        layers.append((Select(chosen.name, "Reshape", x.array.name, chosen.name, kept), chosen))
        part = whole.part(f"{whole.name}:{top}:{left}", (batch, count, 1, 1), Inside(whole.name, top=top, left=left))
        layers.append((SfuOp(part.name, "Reshape", chosen.name, part.name), part))
    return Quantized(whole, strided(x.shape), x.dtype)
