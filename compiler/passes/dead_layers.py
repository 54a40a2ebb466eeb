"""Dead layers, whose result nobody needs, are removed."""

from dataclasses import replace

from systolith.compiler.ir.graph import Graph, Layer

__all__ = ["remove_dead_layers"]


def remove_dead_layers(graph: Graph) -> Graph:
    """The graph with only the layers, and their values, that an output depends on. Network inputs stay."""
    needed: set[str] = set()
    for port in graph.outputs:
        needed.update(_around(graph, port.value))
    layers: list[Layer] = []
    for layer in reversed(graph.layers):
        if needed.isdisjoint(_around(graph, layer.output)):
            continue
        needed.add(layer.output)
        for name in layer.inputs:
            needed.update(_around(graph, name))
        layers.append(layer)
    needed |= {port.value for port in graph.inputs}
    values = {name: value for name, value in graph.values.items() if name in needed}
    return replace(graph, values=values, layers=tuple(reversed(layers)))


def _around(graph: Graph, name: str) -> list[str]:
    """The value, and those that it lies inside."""
    inside = graph.values[name].inside
    return [name] if inside is None else [name, *_around(graph, inside.whole)]
