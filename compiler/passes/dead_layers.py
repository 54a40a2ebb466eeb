"""Removes layers whose result nobody needs."""

from dataclasses import replace

from systolith.compiler.ir import Conv, Graph

__all__ = ["remove_dead_layers"]


def remove_dead_layers(graph: Graph) -> Graph:
    """The graph with only the layers, and their values, that an output depends on. Network inputs stay."""
    needed = {port.value for port in graph.outputs}
    layers: list[Conv] = []
    for layer in reversed(graph.layers):
        if layer.output in needed:
            needed.add(layer.input)
            layers.append(layer)
    needed |= {port.value for port in graph.inputs}
    values = {name: value for name, value in graph.values.items() if name in needed}
    return replace(graph, values=values, layers=tuple(reversed(layers)))
