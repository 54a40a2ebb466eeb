"""Liveness of tensors: from the first layer that writes a part of one to the last layer that reads any of it."""

from collections import defaultdict
from dataclasses import dataclass

from systolith.compiler.ir.graph import Conv, Graph, Layer, SfuOp
from systolith.compiler.layout.layout import root_of, words_of

__all__ = ["Lifetime", "lifetimes"]


@dataclass(frozen=True)
class Lifetime:
    """A tensor that layers make: its words, the layers from `first` to `last` that touch it, and how many read it.

    `over`: tensors that it may take the place of while the layer that makes it reads them for the last time, word by
    word. `rivals`: tensors that another unit reads at the same time, so that other banks are better.
    """

    name: str
    words: int
    first: int
    last: int
    reads: int
    over: frozenset[str]
    rivals: frozenset[str]

    @property
    def traffic(self) -> int:
        """Words written and read if it is in memory."""
        return self.words * (1 + self.reads)

    def meets(self, other: "Lifetime") -> bool:
        """Whether some layer has both."""
        return self.first <= other.last and other.first <= self.last


def lifetimes(graph: Graph, array: int) -> dict[str, Lifetime]:
    """The life of every tensor that layers make, by name, in the order of their beginnings."""
    inputs = {port.value for port in graph.inputs}
    spans: dict[str, tuple[int, int]] = {}
    reads: dict[str, int] = defaultdict(int)
    for index, layer in enumerate(graph.layers):
        for root in {root_of(graph, name) for name in layer.inputs}:
            reads[root] += 1
            spans[root] = (spans.get(root, (index, index))[0], index)
        root = root_of(graph, layer.output)
        spans[root] = (spans.get(root, (index, index))[0], index)
    rivals = _rivals(graph)
    over: dict[str, set[str]] = defaultdict(set)
    for index, layer in enumerate(graph.layers):
        over[root_of(graph, layer.output)] |= {
            name for name in _replaceable(graph, layer) if name not in inputs and spans[name][1] == index
        }
    return {
        name: Lifetime(name, words_of(graph, name, array), first, last, reads[name], frozenset(over[name]),
                   frozenset(rivals[name]))
        for name, (first, last) in sorted(spans.items(), key=lambda item: item[1][0])
        if name not in inputs
    }  # fmt: skip


def _replaceable(graph: Graph, layer: Layer) -> set[str]:
    """Tensors that a layer reads only where it writes the same position of an output of the same shape."""
    output = graph.values[layer.output]
    if output.inside is not None:
        return set()
    match layer:
        case SfuOp() if layer.window.is_plain:
            names, others = set(layer.inputs), set()
        case Conv() if layer.add:
            names, others = {layer.add.operand}, {root_of(graph, layer.input)}
        case _:
            return set()
    same = {name for name in names if graph.values[name].inside is None and graph.values[name].dims == output.dims}
    return same - others - {root_of(graph, name) for name in names - same}


def _rivals(graph: Graph) -> dict[str, set[str]]:
    """Tensors by those that the array may read while the SFU, STORE or the depthwise unit reads them, and the other
    way: of the same layer, or of a neighbour."""
    stored = {port.value for port in graph.outputs}
    rivals: dict[str, set[str]] = defaultdict(set)
    for index, layer in enumerate(graph.layers):
        alone = isinstance(layer, SfuOp) or (isinstance(layer, Conv) and layer.groups > 1)
        slow = list(layer.inputs) if alone else list(layer.inputs[1:])
        slow += [layer.output] if root_of(graph, layer.output) in stored else []
        near = [other for other in graph.layers[max(index - 1, 0) : index + 2] if isinstance(other, Conv)]
        for a in {root_of(graph, name) for name in slow}:
            for b in {root_of(graph, other.input) for other in near} - {a}:
                rivals[a].add(b)
                rivals[b].add(a)
    return rivals
