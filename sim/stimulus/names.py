"""Random names for the tensors and nodes of a model, as frameworks and converters leave them.

Numbers, scopes with slashes, `:0` behind a name, and what looks like a name that was derived from another one.
"""

from collections.abc import Iterable, Mapping
from typing import TypeVar

from onnx import ModelProto

from systolith.sim.stimulus.subgraphs import graphs, rename
from systolith.sim.stimulus.tensors import Draws

__all__ = ["renamed"]

T = TypeVar("T")
SUFFIXES = (
    ":0", "_quantized", ".1", ":quantized", "_scale", "/output_0", ".", ":", "_out", ":real", "_QuantizeLinear_Output",
    "_zero_point", "'", ".bias", ":0:0", ".0", "_cut", "_d0",
)  # fmt: skip


def renamed(model: ModelProto, inputs: Mapping[str, T], draws: Draws) -> dict[str, T]:
    """Give every tensor and node of the model another name. Returns the inputs by their new names."""
    new: dict[str, str] = {}
    for name in _names(model):
        new[name] = _fresh(name, list(new.values()), draws)
    rename(model.graph, lambda name: new.setdefault(name, name))
    _rename_nodes(model.graph.node, draws)
    return {new[name]: values for name, values in inputs.items()}


def _fresh(name: str, taken: list[str], draws: Draws) -> str:
    """A name that no tensor has yet."""
    while True:
        match draws.integer(0, 5):
            case 0:
                found = name
            case 1:
                found = str(draws.integer(0, 999))
            case 2:
                found = f"/model/layer.{draws.integer(0, 9)}/{name.removesuffix('_out')}/Output:0"
            case 3 if taken:
                suffix = SUFFIXES[draws.integer(0, len(SUFFIXES) - 1)]
                found = taken[draws.integer(0, len(taken) - 1)] + suffix
            case 4:
                found = f"{name}{SUFFIXES[draws.integer(0, len(SUFFIXES) - 1)]}"
            case _:
                found = f"onnx::{name.split('_')[0].capitalize()}_{draws.integer(0, 999)}"
        if found not in taken:
            return found


def _names(model: ModelProto) -> Iterable[str]:
    graph = model.graph
    yield from (item.name for items in (graph.input, graph.initializer) for item in items)
    yield from _made(graph)


def _made(graph) -> Iterable[str]:
    for node in graph.node:
        yield from (name for name in node.output if name)
        for inner in graphs(node):
            yield from (item.name for items in (inner.input, inner.initializer) for item in items)
            yield from _made(inner)


def _rename_nodes(nodes, draws: Draws) -> None:
    """Nodes without names, or with those of tensors."""
    for node in nodes:
        match draws.integer(0, 5):
            case 0:
                node.name = ""
            case 1:
                node.name = node.output[0]
            case 2:
                node.name = f"/{node.op_type}/{node.output[0]}"
        for inner in graphs(node):
            _rename_nodes(inner.node, draws)
