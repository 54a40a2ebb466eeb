"""Lowering: layers that only move channels become addresses. Convolutions, SFU layers and nested values remain.

A concatenation is written by its parts; a selection is a view of its input. Channels of a value may lie in any order,
with gaps (`orders.py`). Convolutions read and write every order, since their weights are permuted. SFU layers keep the
order of their input. Where that is not enough, a selection convolution (weights 0 and 1) reorders.
"""

from collections import defaultdict
from dataclasses import replace

from systolith.compiler.ir.graph import Concat, Conv, Graph, Inside, Layer, Select, SfuOp
from systolith.compiler.jobs.array import touched_blocks
from systolith.compiler.layout.layout import blocks_of
from systolith.compiler.passes.channels.builder import Physical
from systolith.compiler.passes.channels.nest_concats import nest_concatenations
from systolith.compiler.passes.channels.orders import (
    NOTHING,
    ChannelOrder,
    by_groups,
    chosen,
    dense,
    identity,
    is_sparse,
    padded,
    selection,
    with_order,
)
from systolith.compiler.passes.channels.preferences import wishes
from systolith.config import Config
from systolith.errors import SystolithError

__all__ = ["lower"]


def lower(graph: Graph, config: Config) -> Graph:
    """The graph with `Conv` and `SfuOp` alone, and with parts that begin with a block of channels."""
    return _Lowering(nest_concatenations(graph), config.array).run()


class _Lowering:
    """One walk in the direction of the data."""

    def __init__(self, graph: Graph, array: int):
        self.graph, self.array = graph, array
        self.wish = wishes(graph, array)
        self.readers: dict[str, list[Layer]] = defaultdict(list)
        for layer in graph.layers:
            for name in layer.inputs:
                self.readers[name].append(layer)
        self.ports = {port.value for port in (*graph.inputs, *graph.outputs)}
        self.made = Physical(graph, array)
        self.orders = self.made.orders

    def run(self) -> Graph:
        for port in self.graph.inputs:
            self.made.add(port.value, identity(self._channels(port.value)))
        for layer in self.graph.layers:
            for name in layer.inputs:
                self._find(name)
            match layer:
                case Conv():
                    self._conv(layer)
                case SfuOp():
                    self._map(layer)
                case Concat():
                    self._concat(layer)
                case Select():
                    self._select(layer)
        outputs = tuple(replace(port, value=self._output(port.value)) for port in self.graph.outputs)
        return replace(self.graph, layers=tuple(self.made.layers), values=self.made.values, outputs=outputs)

    # Layers

    def _conv(self, layer: Conv) -> None:
        channels = self._channels(layer.input)
        single = layer.groups == channels > 1
        if single:
            layer = replace(layer, input=self._compact(layer.input, layer.output))
        if layer.add:
            layer = replace(layer, add=replace(layer.add, operand=self._compact(layer.add.operand, layer.output)))
        target = self._preferred(layer)
        if layer.groups > 1 and not single:
            layer, target = self._groups(layer, target)
        source = self.orders[layer.input]
        if single:
            target = by_groups(source, len(layer.weights) // channels)
        if layer.groups == 1 or single:
            layer = with_order(self.graph, layer, source, target)
        if layer.add:
            layer = replace(layer, add=replace(layer.add, operand=self.made.in_order(layer.add.operand, target)))
        self._write(layer, target)

    def _groups(self, layer: Conv, target: ChannelOrder) -> tuple[Conv, ChannelOrder]:
        """A convolution with groups, and the order it writes. Groups need the logical order on both sides; any other
        takes zeros between the groups, or selections before or after, whichever has fewer K tiles."""
        source, logical = self.orders[layer.input], identity(len(layer.weights))
        _, channels, height, width = self.graph.values[layer.input].dims
        rows, cols = layer.output_size(height, width)
        _, touched = touched_blocks(len(layer.weights), channels, layer.groups, self.array)
        inputs, outputs = blocks_of(len(source), self.array), blocks_of(len(target), self.array)
        tiles = inputs * outputs - blocks_of(len(logical), self.array) * touched
        zeros = rows * cols * layer.weights[0, 0].size * tiles
        before = height * width * inputs**2 if source != identity(channels) else 0
        after = rows * cols * outputs**2 if target != logical else 0
        if before + after > zeros:
            return dense(self.graph, layer), target
        return replace(layer, input=self.made.in_order(layer.input, identity(channels))), logical

    def _map(self, layer: SfuOp) -> None:
        second = layer.multiply or layer.add
        x = self._compact(layer.input, layer.output)
        if second is None:
            self._write(replace(layer, input=x), self.orders[x])
            return
        y = second.operand
        if self.orders[x] != self.orders[y]:
            if self.made.words(x) < self.made.words(y):
                x = self.made.in_order(x, self.orders[self._compact(y, layer.output)])
            y = self.made.in_order(y, self.orders[x])
        second = replace(second, operand=y)
        stage = {"multiply": second} if layer.multiply else {"add": second}
        self._write(replace(layer, input=x, **stage), self.orders[x])

    def _concat(self, layer: Concat) -> None:
        starts, orders, offset, logical = [], [], [0, 0, 0, 0], 0
        whole: ChannelOrder = ()
        for index, name in enumerate(layer.inputs):
            order = self._order_of_part(layer, index)
            starts.append(tuple(offset))
            offset[layer.axis] += len(order) if layer.axis == 1 else self.graph.values[name].dims[layer.axis]
            whole += tuple(c if c == NOTHING else c + logical for c in order)
            logical += self._channels(name)
            orders.append(order)
        whole = whole if layer.axis == 1 else orders[0]
        firm = layer.output in self.wish.firm
        wanted, output = self.wish.orders[layer.output] if firm else whole, layer.output
        self.made.add(output, wanted)
        if wanted != whole:
            output = self.made.fresh(f"{output}.parts", output, whole)
        for name, order, start in zip(layer.inputs, orders, starts, strict=True):
            self._place(name, order, Inside(output, *start))
        if wanted != whole:
            self.made.move(output, layer.output)

    def _select(self, layer: Select) -> None:
        """A view of the blocks that hold what is selected; a convolution only where a channel is selected twice."""
        order = self.orders[layer.input]
        if len(set(layer.channels)) < len(layer.channels):
            source = self.made.values[layer.input]
            self.made.add(layer.output, identity(len(layer.channels)))
            self.made.layers.append(selection(layer.name, source, layer.output, order, layer.channels))
            return
        order = chosen(order, layer.channels)
        used = [number // self.array for number, channel in enumerate(order) if channel != NOTHING]
        first, end = used[0] * self.array, (used[-1] + 1) * self.array
        self.made.add(layer.output, order[first:end], Inside(layer.input, channel=first))

    # Orders

    def _preferred(self, layer: Conv) -> ChannelOrder:
        """The order to write: that of a value it is combined with, or what the readers wish for."""
        if layer.add:
            return self.orders[layer.add.operand]
        for reader in self.readers[layer.output]:
            if isinstance(reader, SfuOp):
                others = [self.orders[name] for name in reader.inputs if name in self.orders]
                if others and not is_sparse(others[0], self.array):
                    return others[0]
        return self.wish.orders.get(layer.output, identity(len(layer.weights)))

    def _compact(self, name: str, output: str) -> str:
        """The value, or a copy with the channels together, if it is much larger than what it holds."""
        if not is_sparse(self.orders[name], self.array):
            return name
        channels = self._channels(name)
        wish = self.wish.orders.get(output, ())
        fits = sorted(c for c in wish if c != NOTHING) == list(range(channels)) and not is_sparse(wish, self.array)
        return self.made.in_order(name, wish if fits else identity(channels))

    def _order_of_part(self, layer: Concat, index: int) -> ChannelOrder:
        """The order that an input of a concatenation has in it: its own where that ends with a block."""
        order = self.orders[layer.inputs[index]]
        if layer.axis != 1:
            return self.orders[layer.inputs[0]]
        if is_sparse(order, self.array):
            order = identity(self._channels(layer.inputs[index]))
        return order if index == len(layer.inputs) - 1 else padded(order, self.array)

    # Values

    def _channels(self, name: str) -> int:
        return self.graph.values[name].dims[1]

    def _find(self, name: str) -> None:
        """Make known a value that no layer makes: parts of it were written, or it is a view."""
        if name in self.orders:
            return
        inside = self.graph.values[name].inside
        assert inside is not None, f"'{name}' is made by no layer"
        self._find(inside.whole)
        self.made.add(name, self._order_inside(name, inside), inside)

    def _order_inside(self, name: str, inside: Inside) -> ChannelOrder:
        """The order of a value that the front end placed inside another: the same channels."""
        if inside.channel or self._channels(name) != self._channels(inside.whole):
            raise SystolithError(f"Tensor '{name}' must have all channels of '{inside.whole}'")
        return self.orders[inside.whole]

    def _write(self, layer: Conv | SfuOp, order: ChannelOrder) -> None:
        """Append a layer that makes a value in an order; one that belongs inside another gets that one's order."""
        inside = self.graph.values[layer.output].inside
        if inside is None:
            self.made.add(layer.output, order)
            self.made.layers.append(layer)
            return
        if inside.whole not in self.orders:
            self._make_whole(inside.whole, order)
        wanted = self._order_inside(layer.output, inside)
        self.made.add(layer.output, wanted, inside)
        if wanted == order:
            self.made.layers.append(layer)
        else:
            between = self.made.fresh(f"{layer.output}.made", layer.output, order)
            self.made.layers.append(replace(layer, output=between))
            self.made.move(between, layer.output)

    def _make_whole(self, name: str, order: ChannelOrder) -> None:
        inside = self.graph.values[name].inside
        if inside is not None:
            self._make_whole(inside.whole, order)
        self.made.add(name, order, inside)

    def _place(self, name: str, order: ChannelOrder, inside: Inside) -> None:
        """Have a part written where it belongs: by what makes it, or by a copy if that has another place already."""
        value = self.made.values[name]
        if self.orders[name] == order and value.inside is None and name not in self.ports:
            self.made.values[name] = replace(value, inside=inside)
        else:
            self.made.move(name, self.made.fresh(f"{name}.part", name, order, inside))

    def _output(self, name: str) -> str:
        """A value with the logical order, which lies inside no other, and is no network input."""
        order, value = identity(self._channels(name)), self.made.values[name]
        if self.orders[name] == order and value.inside is None:
            return name
        output = self.made.fresh(f"{name}.output", name, order)
        self.made.move(name, output)
        return output
