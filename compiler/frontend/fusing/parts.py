"""Layers made of several convolutions: each makes some rows and columns of the output, at regular distances."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from systolith.compiler.frontend.values.array import Array, Layers
from systolith.compiler.frontend.values.tensors import ConcatPart
from systolith.compiler.ir.graph import Conv, Inside

__all__ = ["append_parts"]


def append_parts(layer: Conv, parts: tuple[ConcatPart, ...], array: Array, layers: Layers) -> None:
    """Append the convolutions that make `array`. `layer` is finished but for what they differ in."""
    for part in parts:
        rows, columns = part.taps
        weights = _taken(_taken(layer.weights, rows, 2), columns, 3)
        real = sum(tap >= 0 for tap in rows) * sum(tap >= 0 for tap in columns)
        macs = None
        if real < len(rows) * len(columns):
            macs = real * layer.weights[:, :, 0, 0].size * part.dims[2] * part.dims[3]
        changed = replace(layer, weights=weights, pads=part.pads, macs_of=macs)
        if len(parts) == 1:
            layers.append((changed, array))
            return
        top, left, step_y, step_x = part.place
        name = f"{array.name}:{top}:{left}"
        inside = Inside(array.name, top=top, left=left, step_y=step_y, step_x=step_x)
        layers.append((replace(changed, name=f"{layer.name}:{top}:{left}", output=name),
                       array.part(name, part.dims, inside)))  # fmt: skip


def _taken(weights: NDArray[np.int8], taps: tuple[int, ...], axis: int) -> NDArray[np.int8]:
    """Those taps of an axis of the kernel; -1 is one of zeros."""
    padded = np.pad(weights, [(0, int(i == axis)) for i in range(weights.ndim)])
    return np.ascontiguousarray(np.take(padded, [tap % padded.shape[axis] for tap in taps], axis))
