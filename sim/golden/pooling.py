"""Maxima and sums over windows for the golden model, and the constants that turn sums into averages."""

import numpy as np
from numpy.typing import NDArray

from systolith.compiler.ir.graph import SfuOp, Window

__all__ = ["average_constants", "reduce_windows"]


def reduce_windows(x: NDArray[np.int8], window: Window, reduce: str, pad: int) -> NDArray[np.int32]:
    """The maximum ("max") or the sum ("sum") of each window, [batch, channels, rows, columns], of [batch, C, H, W].

    A position outside the input is `pad`; negative pads leave out rows or columns.
    """
    operation = np.maximum if reduce == "max" else np.add
    sizes = window.output_size(*x.shape[2:])
    values = x.astype(np.int32)
    # Windows are rectangles: first along rows, then along columns.
    for axis in (3, 2):
        at = axis - 2
        values = _pad(values, axis, window.pads[at], window.pads[at + 2], pad)
        taps = (
            _every(values, axis, tap * window.dilation[at], window.stride[at], sizes[at])
            for tap in range(window.kernel[at])
        )
        total = next(taps).copy()
        for tap in taps:
            operation(total, tap, out=total)
        values = total
        # The pad of a whole row, once it is reduced.
        pad = pad if reduce == "max" else pad * window.kernel[at]
    return values


def _pad(values: NDArray, axis: int, before: int, after: int, pad: int) -> NDArray:
    kept = [slice(None)] * 4
    kept[axis] = slice(max(-before, 0), values.shape[axis] - max(-after, 0))
    widths = [(0, 0)] * 4
    widths[axis] = (max(before, 0), max(after, 0))
    return np.pad(values[tuple(kept)], widths, constant_values=pad)


def _every(values: NDArray, axis: int, first: int, stride: int, count: int) -> NDArray:
    chosen = [slice(None)] * 4
    chosen[axis] = slice(first, first + (count - 1) * stride + 1, stride)
    return values[tuple(chosen)]


def average_constants(
    layer: SfuOp, size: tuple[int, int], output: tuple[int, int]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Bias and factor of each output position, [rows, columns], of an average."""
    zero = 0, 0, 0, 0
    inside = _count(layer.window, size, zero, output)
    divisor = inside if layer.counted is None else _count(layer.window, size, layer.counted, output)
    factors = {count: layer.factor(count) for count in np.unique(divisor).tolist()}
    factor = np.vectorize(factors.__getitem__, otypes=[np.float32])(divisor)
    return (-layer.x_zero * inside).astype(np.int32), factor


def _count(window: Window, size: tuple[int, int], extra: tuple[int, int, int, int], output: tuple[int, int]) -> NDArray:
    """For each output position, how many positions of its window lie inside the input extended by pads `extra`."""
    counts = []
    for at in range(2):
        first = np.arange(output[at]) * window.stride[at] - window.pads[at]
        positions = first[:, None] + np.arange(window.kernel[at]) * window.dilation[at]
        counts.append(((positions >= -extra[at]) & (positions < size[at] + extra[at + 2])).sum(axis=1))
    return counts[0][:, None] * counts[1]
