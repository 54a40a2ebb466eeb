"""MaxPool, AveragePool and their global forms: windows that slide over a quantized tensor."""

from dataclasses import replace
from typing import Any

import numpy as np

from systolith.compiler.frontend.model.node import Node
from systolith.compiler.frontend.operators.geometry import Geometry, geometry
from systolith.compiler.frontend.values.array import Array, Layers, image_roles
from systolith.compiler.frontend.values.images import quantized_part, same_kind
from systolith.compiler.frontend.values.roles import bind_image
from systolith.compiler.frontend.values.tensors import Dequantized, PendingSfu, Quantized, Tensor, describe
from systolith.compiler.frontend.values.views import View
from systolith.compiler.ir.graph import Dims, SfuOp, Window

__all__ = ["average", "average_pool", "dequantized", "global_average_pool", "global_max_pool", "max_pool",
           "maximum", "pool_windows"]  # fmt: skip

LONGEST = 1 << 16
"""Of a window, along an axis; pads are shorter."""
WINDOW = {"auto_pad": "NOTSET", "ceil_mode": 0, "dilations": (), "kernel_shape": (), "pads": (), "strides": ()}


def max_pool(node: Node, inputs: list[Tensor | None], layers: Layers) -> Tensor:
    """MaxPool of an 8-bit tensor or of a dequantized one: the maximum does not care."""
    attributes = node.attributes(**WINDOW, storage_order=0)
    x = quantized_part(node, inputs[0])
    window, dims, view = pool_windows(node, x, attributes)
    _refuse_empty(node, window, x.shape[2:])
    return same_kind(inputs[0], maximum(node, x, window, dims, view, layers))


def global_max_pool(node: Node, inputs: list[Tensor | None], layers: Layers) -> Tensor:
    """GlobalMaxPool, likewise."""
    node.attributes()
    x = quantized_part(node, inputs[0])
    window, dims, view = _whole(node, x)
    return same_kind(inputs[0], maximum(node, x, window, dims, view, layers))


def average_pool(node: Node, inputs: list[Tensor | None], quantized: bool = False) -> PendingSfu:
    """AveragePool of a dequantized tensor, before its QuantizeLinear; with `quantized` as a QLinearAveragePool.

    They differ with count_include_pad. ONNX counts the pads that the node names, not what sticks out of them with
    ceil_mode, and so does ONNX Runtime's AveragePool. Its QLinearAveragePool, which no other defines, counts all of the
    window, even where it takes the place of an AveragePool.
    """
    attributes = node.attributes(**WINDOW, count_include_pad=0)
    x = dequantized(node, inputs[0])
    window, dims, view = pool_windows(node, x, attributes)
    _refuse_empty(node, window, x.shape[2:])
    if not attributes["count_include_pad"]:
        return average(node, x, window, dims, view)
    return average(node, x, window, dims, view, window.pads if quantized else _pads(node, x, attributes))


def global_average_pool(node: Node, inputs: list[Tensor | None]) -> PendingSfu:
    """GlobalAveragePool of a dequantized tensor, before its QuantizeLinear."""
    node.attributes()
    x = dequantized(node, inputs[0])
    return average(node, x, *_whole(node, x))


def maximum(node: Node, x: Quantized, window: Window, dims: Dims, view: View, layers: Layers) -> Quantized:
    """Appends the layer that takes the maximum over windows of `x`, for an output of those dims."""
    array = x.array.moved(node.proto.output[0], dims)
    layers.append((SfuOp(node.name, node.op, x.array.name, array.name, window), array))
    return Quantized(array, view, x.dtype)


def average(
    node: Node, x: Quantized, window: Window, dims: Dims, view: View, counted: tuple[int, int, int, int] | None = None
) -> PendingSfu:
    """The average over windows of `x`, before quantization, for an output of those dims."""
    scale, zero_point = x.array.scale, x.array.zero_point
    assert scale is not None and zero_point is not None
    layer = SfuOp(node.name, node.op, x.array.name, "", window, "average", 0, counted, zero_point)
    return PendingSfu(node, layer, Array("", dims, own_roles=image_roles(dims)), view, (scale,))


def pool_windows(node: Node, x: Quantized, attributes: dict[str, Any]) -> tuple[Window, Dims, View]:
    """Window over `x` [N, C, H, W] or [N, C, L], dims of the output, and its view."""
    sizes = _sizes(node, x)
    kernel = attributes["kernel_shape"]
    if len(kernel) != len(sizes) or min(kernel) < 1:
        raise node.error(f"attribute 'kernel_shape' must be {len(sizes)} positive integers, not {list(kernel)}")
    if attributes["auto_pad"].startswith("SAME") and any(step != 1 for step in attributes["dilations"]):
        raise node.unsupported("attribute 'dilations' must be 1 with auto_pad SAME, where ONNX Runtime ignores it")
    shape = geometry(node, attributes, sizes, kernel)
    if attributes["auto_pad"].startswith("SAME"):
        _refuse_skipping(node, shape, sizes, kernel)
    height, width = (1, *sizes)[-2:]
    kernel_y, kernel_x = (1, *kernel)[-2:]
    window = Window((kernel_y, kernel_x), shape.stride, shape.dilation, shape.pads)
    if any(pad >= size for pad, size in zip(shape.pads, (kernel_y, kernel_x) * 2, strict=True) if pad):
        raise node.unsupported(
            f"attribute 'pads' must be smaller than the kernel {list(kernel)}, not {list(shape.pads)}"
        )
    if attributes["ceil_mode"] and attributes["auto_pad"] in ("NOTSET", "VALID"):
        window = _rounded_up(window, (height, width))
    dims, view = bind_image(node, x, x.shape[1], window.output_size(height, width))
    return window, dims, view


def _pads(node: Node, x: Quantized, attributes: dict[str, Any]) -> tuple[int, int, int, int]:
    """The pads that the node names."""
    return geometry(node, attributes, _sizes(node, x), attributes["kernel_shape"]).pads


def dequantized(node: Node, tensor: Tensor | None) -> Quantized:
    """The 8-bit tensor behind an input that must be dequantized."""
    if not isinstance(tensor, Dequantized):
        raise node.unsupported(f"input must be DequantizeLinear of an 8-bit tensor, not {describe(tensor)}")
    return tensor.quantized


def _rounded_up(window: Window, sizes: tuple[int, int]) -> Window:
    """The window with pads after rows and columns for one more position, if the last one otherwise leaves some out and
    the next one begins inside the input or the pads before it."""
    pads = list(window.pads)
    for axis, size in enumerate(sizes):
        before, after = pads[axis], pads[axis + 2]
        extent, stride = window.dilation[axis] * (window.kernel[axis] - 1) + 1, window.stride[axis]
        count = -(-(size + before + after - extent) // stride) + 1
        if (count - 1) * stride >= size + before:
            count -= 1
        pads[axis + 2] = (count - 1) * stride + extent - size - before
    return replace(window, pads=tuple(pads))


def _refuse_skipping(node: Node, shape: Geometry, sizes: tuple[int, ...], kernel: tuple[int, ...]) -> None:
    """Raises UnsupportedError where auto_pad SAME skips what no window needs: ONNX Runtime's pads become negative."""
    for size, extent, count, stride in zip((1, *sizes)[-2:], (1, *kernel)[-2:], shape.size, shape.stride, strict=True):
        if (count - 1) * stride + extent < size - 1:
            raise node.unsupported(f"auto_pad SAME must not skip rows or columns, as strides {shape.stride} do")


def _refuse_empty(node: Node, window: Window, sizes: tuple[int, ...]) -> None:
    """Raises UnsupportedError for a window that has no position inside an input of that height and width."""
    outputs = window.output_size(*(1, *sizes)[-2:])
    if max(window.kernel) > LONGEST:
        raise node.unsupported(f"attribute 'kernel_shape' must be at most {LONGEST}, not {list(window.kernel)}")
    for axis, size in enumerate((1, *sizes)[-2:]):
        begin, stride, dilation = -window.pads[axis], window.stride[axis], window.dilation[axis]
        last = begin + (outputs[axis] - 1) * stride
        starts = np.array([*range(begin, min(0, last), stride), last])  # Those between begin inside.
        taps = np.maximum(-(starts // dilation), 0)  # The first that is not before the input.
        if not ((taps < window.kernel[axis]) & (starts + taps * dilation < size)).all():
            raise node.unsupported("windows must not lie in the pads alone")


def _whole(node: Node, x: Quantized) -> tuple[Window, Dims, View]:
    """One window over height and width."""
    height, width = (1, *_sizes(node, x))[-2:]
    dims, view = bind_image(node, x, x.shape[1], (1, 1))
    return Window((height, width)), dims, view


def _sizes(node: Node, x: Quantized) -> tuple[int, ...]:
    if len(x.shape) not in (3, 4):
        raise node.unsupported(f"input must have 3 or 4 dimensions, not shape {x.shape}")
    return x.shape[2:]
