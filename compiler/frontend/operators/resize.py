"""Resize to the nearest neighbour: each row and column is copied a whole number of times, or some are left out.

The source of every coordinate is computed as ONNX defines it. No mode is trusted by its name.
"""

from itertools import product
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.compiler.frontend.model.node import Node
from systolith.compiler.frontend.operators.quantize_linear import constant, integers
from systolith.compiler.frontend.values.array import Layers
from systolith.compiler.frontend.values.images import Image, images, quantized_part, same_kind
from systolith.compiler.frontend.values.tensors import Quantized, Tensor
from systolith.compiler.ir.graph import Dims, Inside, SfuOp, Window

__all__ = ["resize"]

BATCH, CHANNELS, HEIGHT, WIDTH = range(4)
LARGEST = 8
"""Copies of a row or column that one step makes; there may be two."""
DEFAULTS = {
    "coordinate_transformation_mode": "half_pixel", "cubic_coeff_a": -0.75, "exclude_outside": 0,
    "extrapolation_value": 0.0, "mode": "nearest", "nearest_mode": "round_prefer_floor",
}  # fmt: skip
SINCE_18 = {"antialias": 0, "axes": (), "keep_aspect_ratio_policy": "stretch"}


def resize(node: Node, inputs: list[Tensor | None], layers: Layers) -> Tensor:
    """Resize of an 8-bit tensor or its DequantizeLinear."""
    x = quantized_part(node, inputs[0])
    image = images(node, [x])[0]
    attributes = _attributes(node)
    sources, resized = {}, {}
    for axis, (scale, size) in enumerate(_scales(node, inputs, attributes, x.shape)):
        role = image.order[axis]
        if attributes["mode"] == "linear" and x.shape[axis] != 1 and scale != 1:
            raise node.unsupported("attribute 'mode' must be 'nearest', but for axes of size 1, not 'linear'")
        source = _sources(node, attributes, x.shape[axis], size, scale)
        if role in (BATCH, CHANNELS) and not np.array_equal(source, np.arange(x.shape[axis])):
            raise node.unsupported(f"axis {axis} must keep its size, as batch and channels do, not scale {scale}")
        sources[role], resized[role] = _steps(node, attributes, source, axis), size
    sizes = resized.get(HEIGHT, 1), resized.get(WIDTH, 1)
    rows, columns = (sources.get(role, (0, 1, 1, (1, 1))) for role in (HEIGHT, WIDTH))
    return same_kind(inputs[0], _copied(node, image, rows, columns, sizes, layers))


def _attributes(node: Node) -> dict[str, Any]:
    if node.opset == 10:
        attributes = node.attributes(mode="nearest") | {"nearest_mode": "simple"}
        attributes["coordinate_transformation_mode"] = "asymmetric"
    else:
        attributes = node.attributes(**DEFAULTS, **(SINCE_18 if node.opset >= 18 else {}))
        node.require(
            attributes, **({"antialias": 0, "keep_aspect_ratio_policy": "stretch"} if node.opset >= 18 else {})
        )
    if attributes["mode"] not in ("nearest", "linear"):
        raise node.unsupported(f"attribute 'mode' must be 'nearest', not {attributes['mode']!r}")
    return attributes


def _scales(
    node: Node, inputs: list[Tensor | None], attributes: dict[str, Any], shape: tuple[int, ...]
) -> list[tuple[np.float32, int]]:
    """Scale and output size of each axis."""
    rank = len(shape)
    given_scales, given_sizes = inputs[1] if node.opset == 10 else (*inputs, None, None)[2], (*inputs, *[None] * 4)[3]
    axes = [axis + rank if axis < 0 else axis for axis in attributes.get("axes", ())] or list(range(rank))
    scales = [] if given_scales is None else constant(node, given_scales, "scales").reshape(-1).tolist()
    sizes = [] if given_sizes is None else integers(node, given_sizes, "sizes")
    if bool(scales) == bool(sizes):
        raise node.unsupported("one of inputs 'scales' and 'sizes' must be there")
    if len(set(axes)) != len(axes) or any(not 0 <= axis < rank for axis in axes):
        raise node.error(f"attribute 'axes' must be different axes of {rank}, not {axes}")
    if len(scales or sizes) != len(axes):
        raise node.error(
            f"input '{'scales' if scales else 'sizes'}' must have {len(axes)} numbers, not {scales or sizes}"
        )
    result = [(np.float32(1), n) for n in shape]
    for i, axis in enumerate(axes):
        if scales and not (np.isfinite(scales[i]) and scales[i] > 0 and 1 <= scales[i] * shape[axis] < 1 << 31):
            raise node.unsupported(f"input 'scales' must be positive, and keep something of each axis, not {scales}")
        if sizes and not 1 <= sizes[i] < 1 << 31:
            raise node.unsupported(f"input 'sizes' must be at least 1, not {sizes}")
        if scales:
            result[axis] = (np.float32(scales[i]), int(np.floor(np.float32(scales[i]) * np.float32(shape[axis]))))
        else:
            result[axis] = (np.float32(sizes[i]) / np.float32(shape[axis]), int(sizes[i]))
    return result


def _sources(node: Node, attributes: dict[str, Any], size: int, resized: int, scale: np.float32) -> NDArray[np.int64]:
    """The index in the input that each index of the output copies."""
    if resized > LARGEST**2 * size:
        raise node.unsupported(f"an axis must become at most {LARGEST**2} times as long, not {resized} from {size}")
    out = np.arange(resized).astype(np.float32)
    half = np.float32(0.5)
    match mode := attributes["coordinate_transformation_mode"]:
        case _ if scale == 1:
            x = out
        case "asymmetric":
            x = out / scale
        case "half_pixel":
            x = (out + half) / scale - half
        case "pytorch_half_pixel":
            x = (out + half) / scale - half if resized > 1 else np.zeros_like(out)
        case "align_corners":
            x = out * np.float32(size - 1) / np.float32(resized - 1) if resized > 1 else np.zeros_like(out)
        case "tf_half_pixel_for_nn":
            x = (out + half) / scale
        case "half_pixel_symmetric":
            middle = np.float32(size) / 2
            x = middle * (1 - np.float32(resized) / (scale * np.float32(size))) + (out + half) / scale - half
        case _:
            raise node.unsupported(f"attribute 'coordinate_transformation_mode' {mode!r} is not supported")
    match rounding := attributes["nearest_mode"]:
        case "round_prefer_floor":
            nearest = np.ceil(x - half)
        case "round_prefer_ceil":
            nearest = np.floor(x + half)
        case "floor":
            nearest = np.floor(x)
        case "ceil":
            nearest = np.ceil(x)
        case "simple":
            nearest = np.floor(x) if scale >= 1 else np.ceil(x)
        case _:
            raise node.unsupported(f"attribute 'nearest_mode' {rounding!r} is not supported")
    return np.clip(nearest, 0, size - 1).astype(np.int64)


def _steps(
    node: Node, attributes: dict[str, Any], source: NDArray[np.int64], axis: int
) -> tuple[int, int, int, tuple[int, int]]:
    """(first, step, count, copies): the source indices are the product of `copies` times each of first + step * i,
    i < count; more copies than are asked for where there is one index."""
    if (source == source[0]).all():
        return int(source[0]), 1, 1, _factors(len(source))
    for copies in (n for n in range(1, min(len(source), LARGEST**2 + 1)) if prod(_factors(n)) == n):
        if len(source) % copies:
            continue
        taken = source[::copies]
        steps = np.diff(taken)
        step = int(steps[0])
        if step > 0 and (steps == step).all() and (np.repeat(taken, copies) == source).all():
            return int(taken[0]), step, len(taken), _factors(copies)
    mode, rounding = attributes["coordinate_transformation_mode"], attributes["nearest_mode"]
    raise node.unsupported(
        f"each index of axis {axis} must be copied equally often, or be left out in even steps ({mode}, {rounding}); "
        f"the sources are {source[:12].tolist()}"
    )


def _factors(copies: int) -> tuple[int, int]:
    """Two factors, neither too large, whose product is as many copies or, if there are none, the fewest more."""
    if copies <= LARGEST:
        return copies, 1
    pairs = [(a, b) for a, b in product(range(1, LARGEST + 1), repeat=2) if a >= b and a * b >= copies]
    return min(pairs, key=lambda pair: (pair[0] * pair[1], sum(pair)))


def _copied(
    node: Node,
    image: Image,
    rows: tuple[int, int, int, tuple[int, int]],
    columns: tuple[int, int, int, tuple[int, int]],
    sizes: tuple[int, int],
    layers: Layers,
) -> Quantized:
    """Copies of the rows and columns that stay, each between the others, as many as `sizes` are."""
    batch, channels, height, width = image.dims
    (first_y, step_y, count_y, copies_y), (first_x, step_x, count_x, copies_x) = rows, columns
    after = first_y + (count_y - 1) * step_y + 1 - height, first_x + (count_x - 1) * step_x + 1 - width
    window = Window(stride=(step_y, step_x), pads=(-first_y, -first_x, *after))
    part, name = (batch, channels, count_y, count_x), node.proto.output[0]
    made = count_y * prod(copies_y), count_x * prod(copies_x)
    names = [f"{name}:once", f"{name}:all" if made != sizes else name]
    if (copies_y[1], copies_x[1]) == (1, 1):
        names = names[1:]
    for label, y, x in zip(names, copies_y, copies_x, strict=False):
        image, window = _stage(node, image, part, window, (y, x), label, layers), Window()
        part = image.dims
    if made != sizes:
        return image.cut(layers, name, (batch, channels, *sizes), Inside(image.array.name))
    return image.x


def _stage(
    node: Node, image: Image, part: Dims, window: Window, copies: tuple[int, int], name: str, layers: Layers
) -> Image:
    """Copies of what the window takes, which has the dims of `part`."""
    if copies == (1, 1):
        if window.is_plain:
            return image
        whole = image.makes(layers, SfuOp(node.name, node.op, image.array.name, name, window), name, part)
        return Image(whole, part, image.order)
    dims = part[0], part[1], part[2] * copies[0], part[3] * copies[1]
    whole, label = image.array.moved(name, dims), name.replace(node.proto.output[0], node.name, 1)
    for y, x in product(range(copies[0]), range(copies[1])):
        lies = Inside(name, top=y, left=x, step_y=copies[0], step_x=copies[1])
        array = whole.part(f"{name}:{y}:{x}", part, lies)
        layers.append((SfuOp(f"{label}:{y}:{x}", node.op, image.array.name, array.name, window), array))
    return Image(Quantized(whole, image.view(dims), image.x.dtype), dims, image.order)
