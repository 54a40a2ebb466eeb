"""Physical channel orders: which logical channel of a value each physical channel holds; NOTHING marks a gap.

A channel of NOTHING may hold anything: every reader multiplies it by zero or ignores it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from systolith.compiler.ir.graph import Conv, Graph, Value
from systolith.compiler.layout.layout import blocks_of

__all__ = ["NOTHING", "ChannelOrder", "by_groups", "chosen", "dense", "identity", "is_sparse", "padded", "selection",
           "with_order"]  # fmt: skip

NOTHING = -1
ChannelOrder = tuple[int, ...]


def identity(channels: int) -> ChannelOrder:
    """Every channel in its place."""
    return tuple(range(channels))


def padded(order: ChannelOrder, array: int) -> ChannelOrder:
    """The order up to the end of its last block."""
    return order + (NOTHING,) * (-len(order) % array)


def is_sparse(order: ChannelOrder, array: int) -> bool:
    """Whether half as many blocks, or fewer, could hold the channels."""
    return blocks_of(len(order), array) >= 2 * blocks_of(sum(c != NOTHING for c in order), array)


def chosen(order: ChannelOrder, channels: Sequence[int]) -> ChannelOrder:
    """The order by new numbers: logical channel channels[c] is c now, and those not among them are NOTHING."""
    numbers = {channel: number for number, channel in enumerate(channels)}
    return tuple(numbers.get(channel, NOTHING) for channel in order)


def by_groups(order: ChannelOrder, each: int) -> ChannelOrder:
    """Order of the outputs of a convolution with a group for each channel and `each` outputs a group."""
    return tuple(c if c == NOTHING else c * each + k for c in order for k in range(each))


def dense(graph: Graph, layer: Conv) -> Conv:
    """The convolution with one group: zeros between the groups."""
    outputs, inputs = layer.weights.shape[0] // layer.groups, layer.weights.shape[1]
    weights = np.zeros((len(layer.weights), inputs * layer.groups, *layer.weights.shape[2:]), np.int8)
    for group in range(layer.groups):
        out = slice(group * outputs, (group + 1) * outputs)
        weights[out, group * inputs : (group + 1) * inputs] = layer.weights[out]
    return replace(layer, weights=weights, groups=1, macs_of=_macs(graph, layer))


def with_order(graph: Graph, layer: Conv, source: ChannelOrder, target: ChannelOrder) -> Conv:
    """The layer with input channels as in `source` and output channels as in `target`.

    One group, or a group for each physical input channel (`target` is `by_groups(source, ...)` then).
    """
    weights = _taken(layer.weights, target, 0)
    groups = layer.groups if layer.groups == 1 else len(source)
    if layer.groups == 1:
        weights = _taken(weights, source, 1)
    macs = layer.macs_of if weights.size == layer.weights.size else _macs(graph, layer)
    scale = _taken(layer.scale, target, 0)
    scale[np.asarray(target) == NOTHING] = 1
    bias = _taken(layer.bias, target, 0)
    return replace(layer, weights=weights, bias=bias, scale=scale, groups=groups, macs_of=macs)


def selection(name: str, source: Value, output: str, order: ChannelOrder, wanted: ChannelOrder) -> Conv:
    """A convolution that brings the channels of `source`, which are in `order`, into the order `wanted`; exact."""
    place = {channel: number for number, channel in enumerate(order)}
    weights = np.zeros((len(wanted), len(order), 1, 1), np.int8)
    for number, channel in enumerate(wanted):
        if channel != NOTHING:
            weights[number, place[channel]] = 1
    bias, scale = np.zeros(len(wanted), np.int32), np.ones(len(wanted), np.float32)
    return Conv(name, "Select", source.name, output, weights, bias, scale, zero_point=source.zero_point, macs_of=0)


def _macs(graph: Graph, layer: Conv) -> int:
    """Multiply-accumulates of one image."""
    batch, _, _, _ = graph.values[layer.input].dims
    return layer.macs(graph) // batch


def _taken(array: np.ndarray, order: Iterable[int], axis: int) -> np.ndarray:
    """Slices of an array in an order; zeros where it has NOTHING."""
    order = np.asarray(tuple(order))
    taken = np.take(array, np.maximum(order, 0), axis)
    shape = [1] * array.ndim
    shape[axis] = len(order)
    return np.where((order != NOTHING).reshape(shape), taken, np.zeros((), array.dtype))
