"""Nesting of concatenations: inputs that an earlier one already joins are read as its output, one dense block."""

from dataclasses import replace

from systolith.compiler.ir.graph import Concat, Graph, Layer

__all__ = ["nest_concatenations"]


def nest_concatenations(graph: Graph) -> Graph:
    """The graph where a concatenation reads the largest earlier one whose inputs are a run of its own inputs."""
    layers: list[Layer] = []
    earlier: list[Concat] = []
    for layer in graph.layers:
        if isinstance(layer, Concat):
            found = max((item for item in earlier if _place(layer, item) is not None),
                        key=lambda item: len(item.inputs), default=None)  # fmt: skip
            earlier.append(layer)
            if found is not None:
                start = _place(layer, found) or 0
                end = start + len(found.inputs)
                inputs = (*layer.inputs[:start], found.output, *layer.inputs[end:])
                layer = replace(layer, inputs=inputs)
        layers.append(layer)
    return replace(graph, layers=tuple(layers))


def _place(layer: Concat, other: Concat) -> int | None:
    """Where the inputs of `other` begin among those of `layer`, None if they are not there."""
    count = len(other.inputs)
    if layer.axis != other.axis or count < 2:
        return None
    starts = range(len(layer.inputs) - count + 1)
    return next((start for start in starts if layer.inputs[start : start + count] == other.inputs), None)
