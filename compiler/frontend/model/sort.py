"""Topological sort of the nodes. A file may hold them in any order, but each tensor must come from one place."""

from collections.abc import Iterable, Iterator

from onnx import GraphProto, ModelProto, NodeProto

from systolith.errors import SystolithError

__all__ = ["sort_nodes"]


def sort_nodes(model: ModelProto, where: str) -> None:
    """Sort the nodes of a model. Raises SystolithError for a cycle, and for tensors that none or two make."""
    graph = model.graph
    makers = _makers(graph, where)
    stored = {tensor.name for tensor in graph.initializer} | {tensor.values.name for tensor in graph.sparse_initializer}
    stored |= {port.name for port in graph.input}
    for port in graph.output:
        if port.name not in makers and port.name not in stored:
            raise SystolithError(f"{where}: output '{port.name}' must be made by a node; none makes it")
    waiting: dict[int, int] = {}
    readers: dict[int, list[int]] = {}
    for i, node in enumerate(graph.node):
        sources = set()
        for name in _reads(node):
            if name in makers:
                sources.add(makers[name])
            elif name not in stored:
                raise SystolithError(
                    f"{where}: {_label(node)}: input '{name}' must be made by a node, or be an initializer or a "
                    "network input; it is none of these"
                )
        waiting[i] = len(sources)
        for source in sources:
            readers.setdefault(source, []).append(i)
    ready = [i for i, count in waiting.items() if not count]
    order: list[int] = []
    for i in ready:  # It grows while it is walked.
        order.append(i)
        for reader in readers.get(i, []):
            waiting[reader] -= 1
            if not waiting[reader]:
                ready.append(reader)
    if len(order) < len(waiting):
        raise SystolithError(f"{where}: {_cycle(graph, set(waiting) - set(order), makers)}")
    if order != sorted(order) and not _is_sorted(graph, makers):
        nodes = [graph.node[i] for i in order]
        del graph.node[:]
        graph.node.extend(nodes)


def _makers(graph: GraphProto, where: str) -> dict[str, int]:
    """The node that makes each tensor."""
    makers: dict[str, int] = {}
    known: set[str] = set()
    for kind, names in (
        ("input", (port.name for port in graph.input)),
        ("initializer", (tensor.name for tensor in graph.initializer)),
    ):
        seen: set[str] = set()
        for name in names:
            if name in seen:
                raise SystolithError(f"{where}: {kind} '{name}' must be there once, not twice")
            seen.add(name)
        known |= seen
    for i, node in enumerate(graph.node):
        for name in node.output:
            if name and (name in makers or name in known):
                raise SystolithError(
                    f"{where}: {_label(node)}: output '{name}' must be a tensor of its own; another of that name exists"
                )
            if name:
                makers[name] = i
    return makers


def _reads(node: NodeProto) -> Iterator[str]:
    """Tensors that a node reads, also those that its subgraphs take from around them."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            own = {port.name for port in graph.input} | {tensor.name for tensor in graph.initializer}
            for inner in graph.node:
                yield from (name for name in _reads(inner) if name not in own)
                own.update(inner.output)


def _is_sorted(graph: GraphProto, makers: dict[str, int]) -> bool:
    return all(makers.get(name, -1) < i for i, node in enumerate(graph.node) for name in _reads(node))


def _cycle(graph: GraphProto, left: Iterable[int], makers: dict[str, int]) -> str:
    """One of the cycles among the nodes that are left."""
    left = set(left)
    path: list[int] = []
    i = min(left)
    while i not in path:
        path.append(i)
        i = next(makers[name] for name in _reads(graph.node[i]) if makers.get(name) in left)
    names = [_label(graph.node[j]) for j in path[path.index(i) :]]
    shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    return f"nodes must not form a cycle; these do: {shown}"


def _label(node: NodeProto) -> str:
    return f"{node.op_type} '{node.name or ', '.join(node.output)}'"
