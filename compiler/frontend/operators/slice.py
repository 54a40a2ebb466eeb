"""Slice, Split and Gather with constant indices: selected channels, rows and columns left out, part of the images."""

from collections.abc import Mapping
from itertools import pairwise

from systolith.compiler.frontend.model.node import Node
from systolith.compiler.frontend.operators.quantize_linear import constant, integers
from systolith.compiler.frontend.values.array import Layers
from systolith.compiler.frontend.values.images import Image, images, quantized_part, same_kind
from systolith.compiler.frontend.values.tensors import Quantized, Tensor
from systolith.compiler.frontend.values.views import View
from systolith.compiler.ir.graph import Inside, Select, SfuOp, Window

__all__ = ["gather", "slice_", "split"]

BATCH, CHANNELS, HEIGHT, WIDTH = range(4)
LONGEST = 1 << 22
"""Of an axis, whose indices are listed."""


def slice_(node: Node, inputs: list[Tensor | None], layers: Layers) -> Tensor:
    """Slice with constant bounds and positive steps."""
    node.attributes()
    x = quantized_part(node, inputs[0])
    starts, ends, axes, steps = (
        None if t is None else integers(node, t, name)
        for t, name in zip((*inputs[1:], None, None)[:4], ("starts", "ends", "axes", "steps"), strict=True)
    )
    starts, ends = starts or [], ends or []
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise node.error(
            "inputs 'starts', 'ends', 'axes' and 'steps' must have the same size, "
            f"not {len(starts)}, {len(ends)}, {len(axes)} and {len(steps)}"
        )
    kept: dict[int, range] = {}
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis = _axis(node, axis, len(x.shape))
        if axis in kept:
            raise node.error(f"input 'axes' must name each axis once, not {axes}")
        if step == 0:
            raise node.error("input 'steps' must not be 0")
        if step < 0:
            raise node.unsupported(f"input 'steps' must be positive, not {step}")
        kept[axis] = range(*slice(start, end, step).indices(x.shape[axis]))
        if not kept[axis]:
            raise node.unsupported(f"axis {axis} of size {x.shape[axis]} must keep something, not [{start}:{end}]")
    return same_kind(inputs[0], _taken(node, _image(node, x), kept, node.name, node.proto.output[0], layers))


def split(node: Node, inputs: list[Tensor | None], layers: Layers) -> list[Tensor]:
    """Split: one part for each output, of given sizes or of equal ones (the last may be smaller)."""
    x = quantized_part(node, inputs[0])
    image, names = _image(node, x), node.proto.output
    sizes: tuple[int, ...]
    if node.opset < 13:
        attributes = node.attributes(axis=0, split=())
        sizes = attributes["split"]
    else:
        attributes = node.attributes(axis=0, num_outputs=0) if node.opset >= 18 else node.attributes(axis=0)
        given = (*inputs, None)[1]
        sizes = () if given is None else tuple(integers(node, given, "split"))
    if attributes.get("num_outputs", 0) not in (0, len(names)):
        raise node.error(f"attribute 'num_outputs' must be {len(names)}, not {attributes['num_outputs']}")
    axis = _axis(node, attributes["axis"], len(x.shape))
    total = x.shape[axis]
    each = -(-total // len(names))
    sizes = sizes or tuple(min(each, total - i * each) for i in range(len(names)))
    if len(sizes) != len(names) or min(sizes) < 0 or sum(sizes) != total:
        raise node.error(f"parts must be {len(names)} sizes that add up to {total}, not {list(sizes)}")
    if not all(sizes):
        raise node.unsupported(f"parts must not be empty, as one of {list(sizes)} is")
    ends = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
    parts = [range(first, last) for first, last in pairwise(ends)]
    return [
        same_kind(inputs[0], _taken(node, image, {axis: kept}, name, name, layers))
        for name, kept in zip(names, parts, strict=True)
    ]


def gather(node: Node, inputs: list[Tensor | None], layers: Layers) -> Tensor:
    """Gather with constant indices: any channels; rows, columns and images in even steps."""
    x, axis = quantized_part(node, inputs[0]), node.attributes(axis=0)["axis"]
    axis = _axis(node, axis, len(x.shape))
    indices = constant(node, inputs[1], "indices")
    size = x.shape[axis]
    if indices.ndim > 1 or not indices.size:
        raise node.unsupported(f"input 'indices' must be a number or a list of some, not of shape {indices.shape}")
    numbers = integers(node, inputs[1], "indices")
    if any(not -size <= i < size for i in numbers):
        raise node.error(f"input 'indices' must be from {-size} to {size - 1}, not {numbers[:8]}")
    kept = [i % size for i in numbers]
    y = _taken(node, _image(node, x), {axis: kept}, node.name, node.proto.output[0], layers)
    if not indices.ndim:
        y = Quantized(y.array, View(y.view.axes[:axis] + y.view.axes[axis + 1 :]), y.dtype)
    return same_kind(inputs[0], y)


def _taken(
    node: Node, image: Image, kept: Mapping[int, range | list[int]], label: str, name: str, layers: Layers
) -> Quantized:
    """The image with only those indices of its axes, as `name`, made by layers called `label`."""
    for axis, indices in kept.items():
        if (longest := max(len(indices), image.dims[image.order[axis]])) > LONGEST:
            raise node.error(f"axis {axis} must have at most {LONGEST} elements, not {longest}")
    wanted = {image.order[axis]: list(indices) for axis, indices in kept.items()}
    wanted = {role: indices for role, indices in wanted.items() if indices != list(range(image.dims[role]))}
    for role in sorted(wanted):
        last = role == max(wanted) or (role == HEIGHT and WIDTH in wanted)
        made, called = (name, label) if last else (f"{name}:{role}", f"{label}:{role}")
        if role == BATCH:
            start, _ = _steps(node, wanted[role], only=1)
            y = image.cut(layers, made, image.resized(BATCH, len(wanted[role])), Inside(image.array.name, start))
        elif role == CHANNELS:
            layer = Select(called, node.op, image.array.name, made, tuple(wanted[role]))
            y = image.makes(layers, layer, made, image.resized(CHANNELS, len(wanted[role])))
        else:
            window = _window(node, image, wanted)
            dims = (*image.dims[:2], *window.output_size(*image.dims[2:]))
            y = image.makes(layers, SfuOp(called, node.op, image.array.name, made, window), made, dims)
        image = Image(y, _dims(y), image.order)
        if last:
            break
    return image.x


def _window(node: Node, image: Image, wanted: Mapping[int, list[int]]) -> Window:
    """Rows and columns left out, and steps."""
    before, after, steps = [], [], []
    for role in (HEIGHT, WIDTH):
        size = image.dims[role]
        indices = wanted.get(role, range(size))
        start, step = _steps(node, indices)
        before.append(-start)
        after.append(indices[-1] + 1 - size)
        steps.append(step)
    return Window(stride=(steps[0], steps[1]), pads=(before[0], before[1], after[0], after[1]))


def _steps(node: Node, indices: list[int] | range, only: int | None = None) -> tuple[int, int]:
    """First index and step."""
    steps = {b - a for a, b in pairwise(indices)} or {1}
    step = min(steps)
    if len(steps) > 1 or step < 1 or only not in (None, step):
        what = "images must rise in steps of 1" if only else "rows and columns must rise in even steps"
        raise node.unsupported(f"indices of {what}, not {list(indices)[:8]}")
    return indices[0], step


def _image(node: Node, x: Quantized) -> Image:
    return images(node, [x])[0]


def _axis(node: Node, axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise node.error(f"axis must be from {-rank} to {rank - 1}, not {axis}")
    return axis % rank


def _dims(x: Quantized) -> tuple[int, int, int, int]:
    assert x.array.roles is not None
    batch, channels, height, width = (role.size for role in x.array.roles)
    return batch, channels, height, width
