"""Graphs inside nodes (If, Loop, Scan): what a node reads, and names in all depths."""

from collections.abc import Callable, Iterable, Iterator

from onnx import AttributeProto, GraphProto, NodeProto

__all__ = ["graphs", "needed", "reads", "rename"]


def graphs(node: NodeProto) -> Iterator[GraphProto]:
    """The graphs in a node's attributes."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def reads(node: NodeProto) -> list[str]:
    """Tensors that a node reads, those that graphs inside it take from outside included; "" for omitted ones."""
    return [*node.input, *(name for graph in graphs(node) for name in _captured(graph))]


def needed(nodes: Iterable[NodeProto], outputs: Iterable[str]) -> list[NodeProto]:
    """Those of sorted nodes that make the outputs, in their order."""
    wanted = set(outputs)
    kept = []
    for node in reversed(list(nodes)):
        if wanted.intersection(node.output):
            wanted.update(name for name in reads(node) if name)
            kept.append(node)
    return kept[::-1]


def rename(graph: GraphProto, new: Callable[[str], str]) -> None:
    """Every tensor of the graph, and of those inside it, gets a new name."""
    for values in (graph.input, graph.output, graph.value_info, graph.initializer):
        for item in values:
            item.name = new(item.name)
    for node in graph.node:
        node.input[:] = [new(name) if name else "" for name in node.input]
        node.output[:] = [new(name) if name else "" for name in node.output]
        for inner in graphs(node):
            rename(inner, new)


def _captured(graph: GraphProto) -> list[str]:
    own = {item.name for items in (graph.input, graph.initializer) for item in items}
    own |= {name for node in graph.node for name in node.output}
    names = [name for node in graph.node for name in reads(node)] + [port.name for port in graph.output]
    return [name for name in names if name and name not in own]
