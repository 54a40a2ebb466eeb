"""Pad with a constant that is an 8-bit value of the tensor: rows and columns by the SFU, channels by the array."""

import numpy as np

from systolith.compiler.frontend.model.node import Node
from systolith.compiler.frontend.operators.quantize_linear import constant, integers
from systolith.compiler.frontend.values.array import Layers, shift
from systolith.compiler.frontend.values.images import Image, images, quantized_part, same_kind
from systolith.compiler.frontend.values.tensors import Constant, Dequantized, Quantized, Tensor
from systolith.compiler.ir.graph import Conv, SfuOp, Window

__all__ = ["pad"]

BATCH, CHANNELS, HEIGHT, WIDTH = range(4)
WEIGHTS = 1 << 26
"""Weights of a convolution that pads channels; pads can be any numbers."""


def pad(node: Node, inputs: list[Tensor | None], layers: Layers) -> Tensor:
    """Pad of an 8-bit tensor or its DequantizeLinear; negative pads leave out."""
    x = quantized_part(node, inputs[0])
    image = images(node, [x])[0]
    mode, pads, fill = _operands(node, inputs, len(x.shape))
    if mode != "constant":
        raise node.unsupported(f"attribute 'mode' must be 'constant', not {mode!r}")
    before, after = [0] * 4, [0] * 4
    for axis, (first, last) in enumerate(pads):
        role = image.order[axis]
        before[role], after[role] = first, last
        if image.dims[role] + min(first, 0) + min(last, 0) < 1:
            raise node.unsupported(f"pads must keep something of axis {axis}, not {[first, last]}")
    value = _byte(node, inputs[0], x, fill) if any(n > 0 for n in (*before, *after)) else 0
    if before[BATCH] or after[BATCH]:
        raise node.unsupported(f"pads of the batch must be 0, not {[before[BATCH], after[BATCH]]}")
    name, y = node.proto.output[0], image
    if any((*before[HEIGHT:], *after[HEIGHT:])):
        window = Window(pads=(before[HEIGHT], before[WIDTH], after[HEIGHT], after[WIDTH]))
        more = before[CHANNELS] or after[CHANNELS]
        y = _around(node, image, window, value, f"{name}:rows" if more else name, layers)
    if before[CHANNELS] or after[CHANNELS]:
        y = _channels(node, y, (before[CHANNELS], after[CHANNELS]), value, layers)
    return same_kind(inputs[0], y.x)


def _operands(node: Node, inputs: list[Tensor | None], rank: int) -> tuple[str, list[tuple[int, int]], Tensor | None]:
    """Mode; pads before and after each axis; the constant."""
    axes = list(range(rank))
    if node.opset < 11:
        attributes = node.attributes(mode="constant", pads=(), value=0.0)
        pads, fill = list(attributes["pads"]), Constant(np.array(attributes["value"], np.float32))
    else:
        attributes = node.attributes(mode="constant")
        _, given, fill, chosen = (*inputs, None, None, None)[:4]
        pads = integers(node, given, "pads")
        if chosen is not None:
            axes = [axis + rank if axis < 0 else axis for axis in integers(node, chosen, "axes")]
    if len(set(axes)) != len(axes) or any(not 0 <= axis < rank for axis in axes):
        raise node.error(f"input 'axes' must be different axes of {rank}, not {axes}")
    if len(pads) != 2 * len(axes):
        raise node.error(f"'pads' must be {2 * len(axes)} integers, not {len(pads)}")
    result = [(0, 0)] * rank
    for i, axis in enumerate(axes):
        result[axis] = (int(pads[i]), int(pads[len(axes) + i]))
    return attributes["mode"], result, fill


def _byte(node: Node, tensor: Tensor | None, x: Quantized, fill: Tensor | None) -> int:
    """The constant as the int8 that the padding holds."""
    if fill is None:
        values = np.zeros((), np.float32 if isinstance(tensor, Dequantized) else x.dtype)
    else:
        values = constant(node, fill, "constant_value").reshape(-1)
    if values.size != 1:
        raise node.error(f"input 'constant_value' must be one number, not {values.size}")
    if isinstance(tensor, Quantized):
        return int(values.reshape(-1)[0]) - shift(x.dtype)
    assert x.array.scale is not None and x.array.zero_point is not None
    real, scale = np.float32(values.reshape(-1)[0]), x.array.scale
    with np.errstate(all="ignore"):
        steps = np.rint(real / scale)
        exact = np.isfinite(steps) and steps * scale == real
    if not (exact and -128 <= steps + x.array.zero_point <= 127):
        raise node.unsupported(
            f"input 'constant_value' must be a value of the quantized tensor (scale {scale}, as int8 zero point "
            f"{x.array.zero_point}), not {real}"
        )
    return int(steps) + x.array.zero_point


def _around(node: Node, image: Image, window: Window, value: int, name: str, layers: Layers) -> Image:
    batch, channels, height, width = image.dims
    dims = batch, channels, *window.output_size(height, width)
    layer = SfuOp(node.name, node.op, image.array.name, name, window, pad=value)
    return Image(image.makes(layers, layer, name, dims), dims, image.order)


def _channels(node: Node, image: Image, pads: tuple[int, int], value: int, layers: Layers) -> Image:
    """Channels more or less, by a convolution: 1 from each channel that stays, and the constant for the others."""
    before, after = pads
    count, name = image.dims[CHANNELS], node.proto.output[0]
    zero_point = image.array.zero_point
    if zero_point is None:
        raise node.unsupported("input must have a scale, from a DequantizeLinear before it")
    outputs = before + count + after
    if outputs * count > WEIGHTS:
        raise node.unsupported(
            f"pads must not make {outputs} channels of {count}: that takes more than {WEIGHTS} weights"
        )
    weights, bias = np.zeros((outputs, count, 1, 1), np.int8), np.full(outputs, value - zero_point, np.int32)
    kept = np.arange(max(-before, 0), min(count, count + after))
    weights[kept + before, kept] = 1
    bias[kept + before] = 0
    layer = Conv(f"{node.name}:channels", node.op, image.array.name, name, weights, bias,
                 np.ones(outputs, np.float32), zero_point=zero_point, macs_of=0)  # fmt: skip
    dims = image.resized(CHANNELS, outputs)
    return Image(image.makes(layers, layer, name, dims), dims, image.order)
