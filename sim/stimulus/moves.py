"""Random operators that only move values: from tensors to others, or within one. See operators.py."""

from collections.abc import Sequence

import numpy as np

from systolith.sim.stimulus.draws import divisor, moved, numbers, require, without
from systolith.sim.stimulus.tensors import Quantized, RandomTensors

__all__ = ["concat", "flatten", "gather", "pad", "resize", "shuffle", "slice_", "split", "squeeze", "transpose"]


def concat(net: RandomTensors, x: Quantized, others: Sequence[Quantized]) -> list[Quantized]:
    """Two or three tensors, one after the other."""
    axis = net.integer(1, len(x.shape) - 1) if net.chance(90) else 0
    alike = [y for y in others if without(y.shape, axis) == without(x.shape, axis)]
    parts = [x, *(net.choice([x, *alike, *alike]) for _ in range(net.integer(1, 2)))]
    return [net.quantized(net.node("Concat", [net.real(part) for part in parts], axis=axis))]


def split(net: RandomTensors, x: Quantized, _: Sequence[Quantized]) -> list[Quantized]:
    """Two parts."""
    axis = net.integer(0, len(x.shape) - 1)
    require(x.shape[axis] > 1)
    first = net.integer(1, x.shape[axis] - 1)
    sizes = net.constant(np.array([first, x.shape[axis] - first]))
    return [net.quantized(y, x) for y in net.nodes("Split", [net.real(x), sizes], 2, axis=axis)]


def slice_(net: RandomTensors, x: Quantized, _: Sequence[Quantized]) -> list[Quantized]:
    """Some of one or two axes, in steps."""
    rank = len(x.shape)
    axes = sorted({net.integer(0, rank - 1) for _ in range(net.integer(1, 2))})
    starts = [net.integer(0, x.shape[axis] - 1) for axis in axes]
    ends = [net.integer(start + 1, x.shape[axis] + 1) for start, axis in zip(starts, axes, strict=True)]
    given = [starts, ends, axes, numbers(net, len(axes), 1, 2)]
    return [moved(net, x, "Slice", [net.constant(np.array(numbers)) for numbers in given])]


def gather(net: RandomTensors, x: Quantized, _: Sequence[Quantized]) -> list[Quantized]:
    """Channels in any order."""
    axis = min(1, len(x.shape) - 1)
    indices = [net.integer(0, x.shape[axis] - 1) for _ in range(net.integer(1, 6))]
    return [moved(net, x, "Gather", [net.constant(np.array(indices))], axis=axis)]


def pad(net: RandomTensors, x: Quantized, _: Sequence[Quantized]) -> list[Quantized]:
    """Rows, columns and channels around a tensor, or fewer of them."""
    rank = len(x.shape)
    pads = np.array([[net.integer(0, 2) - net.integer(0, 1) if axis else 0 for axis in range(rank)] for _ in range(2)])
    require(bool(np.all(np.array(x.shape) + np.minimum(pads, 0).sum(0) > 0)))
    byte = net.integer(net.low, net.high)
    value = np.float32(byte - int(x.zero_point)) * x.scale
    y = net.node("Pad", [net.real(x), net.constant(pads.reshape(-1)), net.constant(np.float32(value))])
    return [net.quantized(y, x)]


def resize(net: RandomTensors, x: Quantized, _: Sequence[Quantized]) -> list[Quantized]:
    """Rows and columns several times."""
    require(len(x.shape) == 4)
    scales = np.array([1, 1, net.integer(1, 3), net.integer(1, 3)], np.float32)
    modes = {"coordinate_transformation_mode": net.choice(["asymmetric", "half_pixel"]),
             "nearest_mode": net.choice(["floor", "round_prefer_floor"])}  # fmt: skip
    return [moved(net, x, "Resize", ["", net.constant(scales)], mode="nearest", **modes)]


def shuffle(net: RandomTensors, x: Quantized, _: Sequence[Quantized]) -> list[Quantized]:
    """Channels of groups in turn."""
    require(len(x.shape) == 4)
    batch, channels, *size = x.shape
    groups = divisor(net, channels)
    y = net.node("Reshape", [net.real(x), net.constant(np.array([batch, groups, channels // groups, *size]))])
    y = net.node("Reshape", [net.node("Transpose", [y], perm=[0, 2, 1, 3, 4]), net.constant(np.array(x.shape))])
    return [net.quantized(y, x)]


def flatten(net: RandomTensors, x: Quantized, _: Sequence[Quantized]) -> list[Quantized]:
    """An image as a row, in one of the ways in which models do it."""
    real = net.real(x)
    if len(x.shape) == 4 and net.chance(20):
        real = net.node("Transpose", [real], perm=[0, 2, 3, 1])
    if net.chance(50):
        return [net.quantized(net.node("Flatten", [real]), x)]
    return [net.quantized(net.node("Reshape", [real, net.constant(np.array([x.shape[0], -1]))]), x)]


def squeeze(net: RandomTensors, x: Quantized, _: Sequence[Quantized]) -> list[Quantized]:
    """Axes of size 1 that go or come."""
    ones = [axis for axis in range(1, len(x.shape)) if x.shape[axis] == 1]
    if ones and net.chance(70):
        return [moved(net, x, "Squeeze", [net.constant(np.array([net.choice(ones)]))])]
    require(len(x.shape) < 4)
    return [moved(net, x, "Unsqueeze", [net.constant(np.array([net.integer(1, len(x.shape))]))])]


def transpose(net: RandomTensors, x: Quantized, _: Sequence[Quantized]) -> list[Quantized]:
    """Channels to the end and back."""
    require(len(x.shape) in (3, 4))
    last = len(x.shape) - 1
    perm = net.choice([[0, *range(2, last + 1), 1], [0, last, *range(1, last)]])
    return [moved(net, x, "Transpose", [], perm=perm)]
