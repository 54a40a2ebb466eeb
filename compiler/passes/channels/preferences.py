"""Channel preferences: the physical channel order in which the readers of a value need or prefer it.

The pass goes from outputs to inputs, against the data flow.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from systolith.compiler.ir.graph import Concat, Conv, Graph, Select, SfuOp
from systolith.compiler.passes.channels.orders import NOTHING, ChannelOrder, identity, padded

__all__ = ["Wishes", "wishes"]


@dataclass
class Wishes:
    """Orders by value, for values whose readers are not indifferent. A wish granted saves work; none is a must.

    Wishes in `firm` come from an output of the network, which must have its logical order in the end, or from a
    convolution with groups, which would be much larger with another one.
    """

    orders: dict[str, ChannelOrder] = field(default_factory=dict)
    firm: set[str] = field(default_factory=set)

    def add(self, name: str, order: ChannelOrder, firm: bool) -> None:
        """A reader's wish; the first one counts."""
        if name not in self.orders:
            self.orders[name] = order
            self.firm |= {name} if firm else set()

    def hand_on(self, name: str, others: Iterable[str]) -> None:
        """What is wished of a value is wished of others."""
        for other in others:
            if name in self.orders:
                self.add(other, self.orders[name], name in self.firm)


def wishes(graph: Graph, array: int) -> Wishes:
    """All wishes. A part of a concatenation fills its blocks; a value that is only split or shuffled would best be made
    in the order of that."""
    wish = Wishes()
    for port in graph.outputs:
        wish.add(port.value, identity(graph.values[port.value].dims[1]), firm=True)
    parts: dict[str, list[ChannelOrder]] = defaultdict(list)
    for layer in reversed(graph.layers):
        name = layer.output
        inside = graph.values[name].inside
        if inside is not None:
            wish.hand_on(inside.whole, [name])
        if name in parts:
            _wish_for_parts(graph, name, wish, parts[name][::-1], array)
        match layer:
            case Conv():
                wish.hand_on(name, layer.inputs[1:])
                _, channels, _, _ = graph.values[layer.input].dims
                if layer.groups == channels == len(layer.weights):
                    wish.hand_on(name, [layer.input] if channels > 1 else [])
                elif layer.groups > 1:
                    wish.add(layer.input, identity(channels), firm=True)
            case Concat(axis=1):
                for index, other in enumerate(layer.inputs):
                    order = identity(graph.values[other].dims[1])
                    last = index == len(layer.inputs) - 1
                    wish.add(other, order if last else padded(order, array), firm=False)
            case SfuOp() | Concat():
                wish.hand_on(name, layer.inputs)
            case Select():
                _note_part(graph, layer, wish.orders.get(name), parts)
    return wish


def _note_part(graph: Graph, layer: Select, order: ChannelOrder | None, parts: dict[str, list[ChannelOrder]]) -> None:
    """What a selection would have its input begin a block with; a shuffle for indifferent readers has no wish."""
    _, channels, _, _ = graph.values[layer.input].dims
    if order is None and len(layer.channels) < channels:
        order = identity(len(layer.channels))
    if order is not None:
        parts[layer.input].append(tuple(c if c == NOTHING else layer.channels[c] for c in order))


def _wish_for_parts(graph: Graph, name: str, wish: Wishes, parts: list[ChannelOrder], array: int) -> None:
    """A wish for the parts of a value that selections read, one after the other, each from the start of a block."""
    order: ChannelOrder = ()
    for part in parts:
        order = padded(order, array) + part
    taken = [channel for channel in order if channel != NOTHING]
    if len(set(taken)) == len(taken):
        rest = tuple(sorted(set(range(graph.values[name].dims[1])) - set(taken)))
        wish.add(name, padded(order, array) + rest if rest else order, firm=False)
