"""DepthToSpace and SpaceToDepth: channels become rows and columns, as in a pixel shuffle, and the other way."""

from itertools import product

from systolith.compiler.frontend.model.node import Node
from systolith.compiler.frontend.values.array import Layers
from systolith.compiler.frontend.values.images import Image, images, quantized_part, same_kind
from systolith.compiler.frontend.values.tensors import Quantized, Tensor
from systolith.compiler.ir.graph import Concat, Inside, Select, SfuOp, Window

__all__ = ["depth_to_space", "space_to_depth"]

CHANNELS = 1
MODES = ("DCR", "CRD")
"""Where the position in a block is in the number of a channel: before all else, or behind it."""


def depth_to_space(node: Node, inputs: list[Tensor | None], layers: Layers) -> Tensor:
    """DepthToSpace of an 8-bit tensor or its DequantizeLinear: for each position some channels, put there."""
    values = node.attributes(blocksize=0, mode="DCR") if node.opset >= 11 else node.attributes(blocksize=0)
    size, mode = values["blocksize"], values.get("mode", "DCR")
    if mode not in MODES:
        raise node.error(f"attribute 'mode' must be DCR or CRD, not {mode!r}")
    image = _image(node, inputs[0])
    batch, channels, height, width = image.dims
    if size < 1 or channels % size**2:
        raise node.error(f"attribute 'blocksize' must be positive, and its square divide {channels}, not {size}")
    count, name = channels // size**2, node.proto.output[0]
    dims = batch, count, height * size, width * size
    whole = image.array.moved(name, dims)
    for y, x in product(range(size), range(size)):
        first = y * size + x
        kept = range(first * count, (first + 1) * count) if mode == "DCR" else range(first, channels, size**2)
        chosen = image.makes(
            layers,
            Select(f"{node.name}:{y}:{x}:channels", node.op, image.array.name, f"{name}:{y}:{x}:channels", tuple(kept)),
            f"{name}:{y}:{x}:channels",
            (batch, count, height, width),
        )
        lies = Inside(name, top=y, left=x, step_y=size, step_x=size)
        part = whole.part(f"{name}:{y}:{x}", (batch, count, height, width), lies)
        layers.append((SfuOp(f"{node.name}:{y}:{x}", node.op, chosen.array.name, part.name), part))
    return same_kind(inputs[0], Quantized(whole, image.view(dims), image.x.dtype))


def space_to_depth(node: Node, inputs: list[Tensor | None], layers: Layers) -> Tensor:
    """SpaceToDepth, likewise: every so many rows and columns, one position of the block after the other."""
    values = node.attributes(blocksize=0, mode="DCR")
    node.require(values, mode="DCR")
    size, image = values["blocksize"], _image(node, inputs[0])
    batch, channels, height, width = image.dims
    if size < 1 or height % size or width % size:
        raise node.error(f"attribute 'blocksize' must divide height {height} and width {width}, not {size}")
    name, part = node.proto.output[0], (batch, channels, height // size, width // size)
    made = []
    for y, x in product(range(size), range(size)):
        window = Window(stride=(size, size), pads=(-y, -x, y + 1 - size, x + 1 - size))
        label = f"{name}:{y}:{x}"
        image.makes(layers, SfuOp(f"{node.name}:{y}:{x}", node.op, image.array.name, label, window), label, part)
        made.append(label)
    dims = batch, channels * size**2, height // size, width // size
    layer = Concat(node.name, node.op, tuple(made), name, CHANNELS)
    return same_kind(inputs[0], image.makes(layers, layer, name, dims))


def _image(node: Node, tensor: Tensor | None) -> Image:
    (image,) = images(node, [quantized_part(node, tensor)])
    if image.order != (0, 1, 2, 3):
        raise node.unsupported("axes must be batch, channels, height and width of the tensor before it, in this order")
    return image
