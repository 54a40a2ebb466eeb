"""Partition of a model between accelerator and host: `Partition(model).parts()`, in an order in which they can run.

A node that the front end or the back end refuses (UnsupportedError) moves to the host, until every part for the
accelerator imports. A node that shares a float32 tensor with one on the host moves as well, so that tensors between
them have 8 bits. Light nodes (`nodes.py`) belong to no side: each part has its own copy.
"""

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from onnx import ModelProto, helper

from systolith.compiler.frontend.importer import import_model
from systolith.compiler.frontend.model.names import stems
from systolith.compiler.frontend.model.open_dims import fixed_batch
from systolith.compiler.frontend.model.reader import read_model
from systolith.compiler.frontend.model.types import TensorType, port
from systolith.compiler.frontend.registry import OPERATORS
from systolith.compiler.ir.graph import Concat, Graph, Layer, Select, SfuOp
from systolith.compiler.partition.groups import Units, cycle, groups
from systolith.compiler.partition.nodes import Nodes
from systolith.errors import SystolithError, UnsupportedError
from systolith.network import HostNode, HostPart, Signature

__all__ = ["AcceleratorPart", "Partition"]


@dataclass(frozen=True, eq=False)
class AcceleratorPart:
    """A part that the accelerator runs: an ONNX model, and what it was imported to; `nodes` by number."""

    model: bytes
    graph: Graph
    nodes: tuple[int, ...]


@dataclass(frozen=True)
class _Group:
    """Nodes that run together on one side, and the tensors that they exchange with others."""

    nodes: tuple[int, ...]
    host: bool
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Partition:
    """What of a model runs where.

    Parameters
    ----------
    source : bytes
        The ONNX model.
    where : str
        Its name, for errors.
    batch : int
        Size of a batch dimension that it leaves open.
    left_open : Collection[str]
        Inputs whose first dimension is no batch, and stays open.

    Raises SystolithError for bad input.
    """

    def __init__(self, source: bytes, where: str, batch: int = 1, left_open: Collection[str] = ()):
        self.where = where
        self.all = Nodes.of(fixed_batch(read_model(source, where), batch, left_open), where)
        self.imported: dict[_Group, AcceleratorPart] = {}
        self.reasons = self._refused()
        """Why each node on the host is there."""
        self.moved: set[int] = set()
        """Those that are there because of others on the host."""

    def parts(self) -> tuple[AcceleratorPart | HostPart, ...]:
        """Parts of accelerator and host, as few as possible. Raises UnsupportedError if all of it is for the host."""
        while True:
            found = self._groups()
            if all(group.host for group in found):
                firsts = sorted(self.reasons, key=lambda i: (i in self.moved, i))
                reasons = (f"{self.all.label(i)}: {self.reasons[i]}" for i in firsts)
                reason = next(reasons, "its nodes only move data")
                raise UnsupportedError(f"{self.where}: nothing of it can run on the accelerator; {reason}", "")
            accepted = [group.host or self._accepts(group) for group in found]
            if all(accepted):
                return tuple(self._host_part(group) if group.host else self.imported[group] for group in found)

    def to_host(self, error: UnsupportedError, nodes: Collection[int]) -> None:
        """Move the one of `nodes` that the error names, or those that read what it names; raise it if there is none."""
        stem = self._stem(error.node)
        named = [self.all.producer.get(stem, -1)]
        if named[0] in self.all.constants:
            named = [i for i in self.all.readers_of_constant(named[0]) if i in nodes and i not in self.reasons]
        elif named[0] not in nodes or named[0] in self.reasons:
            light = self.all.light - self.reasons.keys()
            mine = [i for i in nodes if i not in light and i not in self.reasons]
            named = [i for i in mine if stem in self.all.sources(self.all.reads[i], light)]
        if not named:
            raise error
        message = str(error).removeprefix(f"{self.where}: ")
        for i in named:
            for name in (self.all.name(i), self.all.nodes[i].output[0]):
                message = message.removeprefix(f"{self.all.nodes[i].op_type} '{name}': ")
            self.reasons[i] = message

    def _refused(self) -> dict[int, str]:
        """Nodes that the front end need not see, and why."""
        found = {}
        for i, node in enumerate(self.all.nodes):
            if i not in self.all.constants and node.op_type not in OPERATORS:
                found[i] = f"operator {node.op_type} is not supported"
            elif (name := self.all.open_operand(i)) is not None:
                found[i] = f"the shape of '{name}' is not known before it runs"
        return found

    def _stem(self, name: str) -> str:
        """The tensor of the model for which a value was made: to its name the front end appends a colon and more, and
        passes a dot and more."""
        known = {*self.all.producer, *self.all.inputs}
        if name in known:
            return name
        return next((stem for stem in stems(name, {len(other) for other in known}) if stem in known), name)

    def signatures(self, names: Iterable[str]) -> tuple[Signature, ...]:
        """Tensors as inputs or outputs."""
        return tuple(Signature(name, kind.shape, kind.dtype) for name, kind in ((n, self._type(n)) for n in names))

    def _type(self, name: str) -> TensorType:
        """The type of a tensor that is an input or output. Raises SystolithError if no NumPy array holds it."""
        if name in self.all.types:
            return self.all.types[name]
        numbers = "integers, bool, float16, float32, float64 or strings"
        message = f"must be of {numbers} to be an input or output of the network or of a part of it"
        raise SystolithError(f"{self.where}: tensor '{name}' {message}")

    def _accepts(self, group: _Group) -> bool:
        """Import a group; if that fails, or is not worth it, move nodes of it to the host."""
        if group in self.imported:
            return True
        model = self._model(group)
        try:
            graph = import_model(model, self.where, types=self.all.types)
        except UnsupportedError as error:
            self.to_host(error, group.nodes)
            for other in error.others:
                with suppress(UnsupportedError):  # Those that read it may have moved already.
                    self.to_host(other, group.nodes)
            return False
        if any(_computes(layer) for layer in graph.layers):
            self.imported[group] = AcceleratorPart(model, graph, group.nodes)
            return True
        for i in group.nodes:
            if i not in self.all.light:
                self.reasons[i] = "it only moves data, from and to the host"
        return False

    def _groups(self) -> list[_Group]:
        """The nodes, but light ones, in as few alternating groups as possible, each with the light ones it needs."""
        while True:
            light = self.all.light - self.reasons.keys()
            sources = {i: self._behind(reads) for i, reads in enumerate(self.all.reads) if i not in light}
            before = {i: {self.all.producer[name] for name in names} for i, names in sources.items()}
            self._move_neighbours(sources)
            units = Units(sources)
            for i, names in sources.items():
                may_pass = self.all.types if i in self.reasons else self.all.small
                units.join([i, *(self.all.producer[name] for name in names if name not in may_pass)])
            if not self._untangle(units, before):
                continue
            readers = _readers(sources)
            found = [self._group(nodes, readers, light) for nodes in groups(units, before, self.reasons)]
            return self._with_rest(found, light)

    def _with_rest(self, found: list[_Group], light: Collection[int]) -> list[_Group]:
        """The host also makes outputs that need no more than light nodes: constants, quantized inputs."""
        there = {name for group in found for name in group.outputs}
        rest = tuple(name for name in self.all.outputs if name not in there)
        if not rest:
            return found
        last = [found.pop()] if found and found[-1].host else []
        nodes = self._closure([i for group in last for i in group.nodes], rest, light)
        outputs = (*(name for group in last for name in group.outputs), *rest)
        return [*found, _Group(nodes, True, self._reads_of(nodes, rest), outputs)]

    def _move_neighbours(self, sources: Mapping[int, set[str]]) -> None:
        """Move what has a tensor in common with the host that may not go between the two."""
        neighbours: dict[int, list[tuple[str, int]]] = {}
        for reader, names in sources.items():
            for name in names - self.all.small:
                maker = self.all.producer[name]
                neighbours.setdefault(maker, []).append((name, reader))
                neighbours.setdefault(reader, []).append((name, maker))
        waiting = list(self.reasons)
        while waiting:
            host = waiting.pop()
            for name, mine in neighbours.get(host, ()):
                if mine not in self.reasons:
                    self.reasons[mine] = f"shares '{name}', which is not quantized, with {self.all.label(host)}"
                    self.moved.add(mine)
                    waiting.append(mine)

    def _untangle(self, units: Units, before: Mapping[int, set[int]]) -> bool:
        """Join units that wait for each other. False: some of them moved to the host instead, where one of them is."""
        while members := cycle(units, before):
            hosts = [i for i in members if i in self.reasons]
            if len(hosts) in (0, len(members)):
                units.join(members)
                continue
            for i in members:
                self.reasons.setdefault(i, f"tensors that are not quantized pass by {self.all.label(hosts[0])}")
            self.moved.update(set(members).difference(hosts))
            return False
        return True

    def _group(self, nodes: list[int], readers: Mapping[str, set[int]], light: Collection[int]) -> _Group:
        """A group with the light nodes it needs."""
        made = {name for i in nodes for name in self.all.nodes[i].output if name}
        elsewhere = {name for name in made if not readers.get(name, set()).issubset(nodes)}
        outputs = [name for name in self.all.outputs if made & self._behind([name])]
        outputs += sorted(elsewhere - set(outputs))
        needed = self._closure(nodes, outputs, light)
        return _Group(needed, nodes[0] in self.reasons, self._reads_of(needed), tuple(outputs))

    def _closure(self, nodes: Iterable[int], outputs: Iterable[str], light: Collection[int]) -> tuple[int, ...]:
        """The nodes and the light ones that they, and the outputs, need."""
        needed = set(nodes)
        waiting = [name for i in needed for name in self.all.operands[i]] + list(outputs)
        while waiting:
            maker = self.all.producer.get(waiting.pop(), -1)
            if maker in light and maker not in needed:
                needed.add(maker)
                waiting += self.all.operands[maker]
        return tuple(sorted(needed))

    def _reads_of(self, nodes: Iterable[int], passed: Iterable[str] = ()) -> tuple[str, ...]:
        """What nodes read and none of them makes: inputs of the model in their order, then what other groups make."""
        made = {name for i in nodes for name in self.all.nodes[i].output}
        reads = {*passed, *(name for i in nodes for name in self.all.reads[i])} - made - self.all.stored
        inputs = [name for name in self.all.inputs if name in reads]
        return (*inputs, *sorted(reads.difference(inputs)))

    def _behind(self, names: Iterable[str]) -> set[str]:
        """Tensors behind `names` that nodes make which are not light."""
        return self.all.sources(names, self.all.light - self.reasons.keys()) & self.all.producer.keys()

    def _model(self, group: _Group) -> bytes:
        """A group as an ONNX model."""
        whole = self.all.model
        used = {*group.outputs, *(name for i in group.nodes for name in self.all.operands[i])}
        given = {item.name: item for item in whole.graph.input}
        graph = helper.make_graph(
            [self.all.nodes[i] for i in group.nodes],
            whole.graph.name or "network",
            [given.get(name) or port(name, self._type(name)) for name in group.inputs],
            [port(name, self._type(name)) for name in group.outputs],
            [tensor for tensor in whole.graph.initializer if tensor.name in used],
        )
        model = ModelProto(ir_version=whole.ir_version, opset_import=whole.opset_import, functions=whole.functions)
        model.graph.CopyFrom(graph)
        return model.SerializeToString()

    def _host_part(self, group: _Group) -> HostPart:
        nodes = [
            HostNode(self.all.nodes[i].op_type, self.all.name(i), self.reasons[i], self.all.macs(i))
            for i in group.nodes
            if i in self.reasons
        ]
        inputs, outputs = self.signatures(group.inputs), self.signatures(group.outputs)
        return HostPart(self._model(group), inputs, outputs, tuple(nodes))


def _readers(sources: Mapping[int, set[str]]) -> dict[str, set[int]]:
    """The nodes that read each tensor."""
    readers: dict[str, set[int]] = {}
    for i, names in sources.items():
        for name in names:
            readers.setdefault(name, set()).add(i)
    return readers


def _computes(layer: Layer) -> bool:
    """Whether a layer does more than move data."""
    if isinstance(layer, SfuOp):
        return bool(layer.multiply or layer.add or layer.table is not None or layer.window.kernel != (1, 1))
    return not isinstance(layer, Concat | Select)
