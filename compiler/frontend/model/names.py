"""Names of tensors that the compiler may make itself: a name of the model in that form gets a tilde.

The front end names the values that it makes after a tensor, with a colon and more; passes use a dot and more. A tensor
that has such a name already, as "up:0" beside "up", is renamed before it is read. An output keeps its name, behind an
Identity.
"""

from collections.abc import Iterable, Iterator, Mapping

from onnx import GraphProto, ModelProto, helper

from systolith.stored_models import graphs

__all__ = ["keep_names_apart", "rename_apart", "stems"]

MARKS, APART = ":.", "~"


def keep_names_apart(model: ModelProto) -> None:
    """Rename what nodes make whose name is that of another tensor, a mark and more."""
    graph = model.graph
    made = [name for node in graph.node for name in node.output if name]
    known = {*made, *(port.name for port in graph.input)}
    lengths = {len(name) for name in known}
    # The compiler's own never end so.
    wrong = [name for name in made if not name.endswith(APART) and any(stem in known for stem in stems(name, lengths))]
    renamed = rename_apart(model, wrong)
    for port in graph.output:
        if port.name in renamed:
            graph.node.append(helper.make_node("Identity", [renamed[port.name]], [port.name]))


def rename_apart(model: ModelProto, names: Iterable[str]) -> dict[str, str]:
    """New names for tensors of the model's graph, in all its nodes; inputs and outputs of the model keep theirs."""
    taken, renamed = {*names, *_names(model)}, {}
    for name in names:
        renamed[name] = _free(name + APART, taken)
        taken.add(renamed[name])
    if renamed:
        _rename(model.graph, renamed)
    return renamed


def stems(name: str, lengths: Iterable[int]) -> Iterator[str]:
    """What a mark follows in a name, the longest first; only of these lengths, as a name may have thousands."""
    for length in sorted(lengths, reverse=True):
        if 0 < length < len(name) and name[length] in MARKS:
            yield name[:length]


def _names(model: ModelProto) -> Iterator[str]:
    """Of tensors in all graphs of the model."""
    for graph in graphs(model):
        yield from (item.name for items in (graph.input, graph.initializer) for item in items)
        yield from (name for node in graph.node for name in node.output)


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += APART
    return name


def _rename(graph: GraphProto, renamed: Mapping[str, str]) -> None:
    """In all nodes, those of graphs in attributes included; outputs of such a graph as well, those of the model not."""
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                _rename(inner, renamed)
                for port in inner.output:
                    port.name = renamed.get(port.name, port.name)
