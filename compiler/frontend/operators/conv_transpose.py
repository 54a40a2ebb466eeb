"""ConvTranspose as stride x stride convolutions: each makes the outputs of one position, by the taps that reach it."""

from itertools import product
from typing import Any

import numpy as np

from systolith.compiler.frontend.fusing.bias import with_bias
from systolith.compiler.frontend.fusing.wide_weights import narrowed
from systolith.compiler.frontend.model.node import Node
from systolith.compiler.frontend.operators.geometry import explicit_pads, numbers, steps
from systolith.compiler.frontend.operators.products import activation, dequantized
from systolith.compiler.frontend.values.array import Layers
from systolith.compiler.frontend.values.roles import bind_image
from systolith.compiler.frontend.values.tensors import ConcatPart, PendingConv, Tensor
from systolith.compiler.ir.graph import Conv

__all__ = ["conv_transpose"]

LARGEST = 8
"""Stride."""
LONGEST = 4096
"""Of a kernel with its dilations, whose zeros become taps."""
DEFAULTS = {
    "auto_pad": "NOTSET", "dilations": (), "group": 1, "kernel_shape": (), "output_padding": (), "output_shape": (),
    "pads": (), "strides": (),
}  # fmt: skip


def conv_transpose(node: Node, inputs: list[Tensor | None], layers: Layers) -> PendingConv:
    """ConvTranspose between DequantizeLinear and QuantizeLinear, 1-D or 2-D."""
    attributes = node.attributes(**DEFAULTS)
    tensor, weights, bias = (*inputs, None)[:3]
    x, kernels = activation(node, tensor, 0), dequantized(node, weights, 1)
    spatial, values = len(x.shape) - 2, kernels.values
    if spatial not in (1, 2):
        raise node.unsupported(
            f"input must have 3 or 4 dimensions (1-D or 2-D convolution), not {len(x.shape)}: {x.shape}"
        )
    if values.ndim != spatial + 2:
        raise node.error(f"weights must have {spatial + 2} dimensions, not shape {values.shape}")
    groups, channels = attributes["group"], x.shape[1]
    if groups < 1 or channels % groups:
        raise node.error(f"attribute 'group' must divide {channels} input channels, not {groups}")
    if len(values) != channels:
        raise node.error(f"weights must be for {channels} input channels, not {len(values)}")
    if kernels.scale.ndim and len(kernels.scale) != values.shape[1]:
        raise node.error(f"weights must have one scale or one for each of {values.shape[1]}, not {len(kernels.scale)}")
    axes = _axes(node, attributes, x.shape[2:], values.shape[2:])
    # [C, O / groups, y, x] to [O, C / groups, y, x].
    values = values if spatial == 2 else values[:, :, np.newaxis, :]
    values = values.reshape(groups, channels // groups, *values.shape[1:]).swapaxes(1, 2)
    values = np.ascontiguousarray(values).reshape(-1, channels // groups, *values.shape[3:])
    rows, columns = axes if spatial == 2 else ([(0, 1, 1, (0,), 0, 0)], axes[0])
    sizes = [sum(phase[2] for phase in phases) for phases in (rows, columns)]
    dims, view = bind_image(node, x, len(values), (sizes[0], sizes[1]))
    parts = tuple(
        ConcatPart(
            (row[3], column[3]),
            (row[4], column[4], row[5], column[5]),
            (dims[0], dims[1], row[2], column[2]),
            (row[0], column[0], row[1], column[1]),
        )
        for row, column in product(rows, columns)
    )
    scale = np.tile(kernels.scale, groups) if kernels.scale.ndim else kernels.scale
    count = len(values)
    array, values = narrowed(node.proto.output[0], x.array, values, groups, layers)
    layer = Conv(node.name, node.op, array.name, "", values, np.zeros(count, np.int32), np.ones(count, np.float32),
                 groups=groups)  # fmt: skip
    assert x.array.scale is not None
    total = PendingConv(node, layer, x.array.scale, scale, dims, view, parts=parts)
    return total if bias is None else with_bias(node, total, bias)


Phase = tuple[int, int, int, tuple[int, ...], int, int]
"""Of an axis of the output: first index, step, count; taps that make it, the last one of the kernel first (-1: zeros);
pads before and after."""


def _axes(node: Node, attributes: dict[str, Any], sizes: tuple[int, ...], kernel: tuple[int, ...]) -> list[list[Phase]]:
    """The phases of each axis."""
    rank = len(sizes)
    strides, dilations, extents = steps(node, attributes, kernel)
    extra = numbers(node, attributes, "output_padding", (0,) * rank, 0)
    if max(strides) > LARGEST:
        raise node.unsupported(f"attribute 'strides' must be at most {LARGEST}, not {list(strides)}")
    if any(more >= stride for more, stride in zip(extra, strides, strict=True)):
        raise node.unsupported(
            f"attribute 'output_padding' must be below the strides {list(strides)}, not {list(extra)}"
        )
    if max(extents) > LONGEST:
        raise node.unsupported(f"kernel with its dilations must be at most {LONGEST} long, not {list(extents)}")
    full = [(n - 1) * s + e + more for n, s, e, more in zip(sizes, strides, extents, extra, strict=True)]
    before, lengths = _pads(node, attributes, sizes, strides, full)
    return [
        _phases(size, stride, extent, dilation, pad, length)
        for size, stride, extent, dilation, pad, length in zip(
            sizes, strides, extents, dilations, before, lengths, strict=True
        )
    ]


def _pads(
    node: Node, attributes: dict[str, Any], sizes: tuple[int, ...], strides: tuple[int, ...], full: list[int]
) -> tuple[list[int], list[int]]:
    """What is left out before each axis of the full output, and the output's size."""
    rank = len(sizes)
    auto, pads = explicit_pads(node, attributes, rank)
    lengths = list(attributes["output_shape"])
    if lengths and len(lengths) not in (rank, rank + 2):
        raise node.unsupported(f"attribute 'output_shape' must be {rank} integers, not {lengths}")
    lengths = lengths[-rank:]
    if not lengths and auto.startswith("SAME"):
        lengths = [n * s for n, s in zip(sizes, strides, strict=True)]
    if not lengths:
        before = list(pads[:rank])
        lengths = [n - first - last for n, first, last in zip(full, pads[:rank], pads[rank:], strict=True)]
    else:
        total = [n - length for n, length in zip(full, lengths, strict=True)]
        if min(total) < 0 or any(length < n for n, length in zip(sizes, lengths, strict=True)):
            # ONNX does not infer a smaller shape.
            raise node.unsupported(f"attribute 'output_shape' must be from {list(sizes)}, as the input is, to {full}, "
                                   f"which it reaches, not {lengths}")  # fmt: skip
        before = [t // 2 if auto == "SAME_UPPER" else t - t // 2 for t in total]
    if min(lengths) < 1:
        raise node.unsupported(f"output must not be empty, as with 'pads' {list(pads)}: {lengths}")
    return before, lengths


def _phases(size: int, stride: int, extent: int, dilation: int, pad: int, length: int) -> list[Phase]:
    """Index y of the output gets what is at k of the kernel's extent from index (y + pad - k) / stride of the input:
    a tap, or with dilation a zero."""
    phases = []
    for first in range(min(stride, length)):
        source, tap = divmod(first + pad, stride)
        taps = tuple(-1 if k % dilation else k // dilation for k in range(tap, extent, stride))[::-1] or (-1,)
        count = -(-(length - first) // stride)
        before = len(taps) - 1 - source
        after = count - size + len(taps) - 1 - before
        # Taps of zeros instead of negative pads.
        taps = (-1,) * -before + taps + (-1,) * -after
        phases.append((first, stride, count, taps, max(before, 0), max(after, 0)))
    return phases
