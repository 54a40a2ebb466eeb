"""Builder of the lowered graph: values with physical channels, the orders of these, and layers."""

from dataclasses import replace

from systolith.compiler.ir.graph import Conv, Graph, Inside, SfuOp, Value, unused
from systolith.compiler.layout.layout import blocks_of
from systolith.compiler.passes.channels.orders import ChannelOrder, selection

__all__ = ["Physical"]


class Physical:
    """Values of `graph` by their names, and new ones, each with as many channels as its order in `orders` has."""

    def __init__(self, graph: Graph, array: int):
        self.graph, self.array = graph, array
        self.values: dict[str, Value] = {}
        self.orders: dict[str, ChannelOrder] = {}
        self.layers: list[Conv | SfuOp] = []
        self._reordered: dict[tuple[str, ChannelOrder], str] = {}

    def add(self, name: str, order: ChannelOrder, inside: Inside | None = None) -> None:
        """Make a value of the graph known."""
        batch, _, height, width = self.graph.values[name].dims
        dims = batch, len(order), height, width
        self.values[name] = replace(self.graph.values[name], dims=dims, inside=inside)
        self.orders[name] = order

    def fresh(self, name: str, like: str, order: ChannelOrder, inside: Inside | None = None) -> str:
        """A new value with the content of another; its name."""
        name = unused(name, self.values, self.graph.values)
        batch, _, height, width = self.values[like].dims
        dims = batch, len(order), height, width
        self.values[name] = replace(self.values[like], name=name, dims=dims, inside=inside)
        self.orders[name] = order
        return name

    def move(self, name: str, output: str) -> None:
        """Append what brings the content of a value into another: a copy, or a selection if their orders differ."""
        order, wanted = self.orders[name], self.orders[output]
        if order == wanted:
            self.layers.append(SfuOp(output, "Copy", name, output))
        else:
            self.layers.append(selection(output, self.values[name], output, order, wanted))

    def in_order(self, name: str, order: ChannelOrder) -> str:
        """The value with its channels in an order: itself, or what a selection makes of it, once."""
        if self.orders[name] == order:
            return name
        key = name, order
        if key not in self._reordered:
            self._reordered[key] = self.fresh(f"{name}.ordered", name, order)
            self.move(name, self._reordered[key])
        return self._reordered[key]

    def words(self, name: str) -> int:
        """Words of a value."""
        batch, channels, height, width = self.values[name].dims
        return batch * blocks_of(channels, self.array) * height * width
