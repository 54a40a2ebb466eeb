"""Nodes of a model: the tensors that each reads, which nodes are constant, and which are light enough to be copied."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
from onnx import AttributeProto, ModelProto, NodeProto, helper, numpy_helper

from systolith.compiler.frontend.model.types import Shape, TensorType, check_output, port, stored_types, tensor_types
from systolith.compiler.frontend.values.constants import is_random
from systolith.compiler.partition.macs import Scope, macs
from systolith.errors import SystolithError

__all__ = ["Nodes", "reads"]

EIGHT_BITS = ("int8", "uint8")
VIEWS = ("Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


@dataclass(frozen=True, eq=False)
class Nodes:
    """The nodes that outputs need, by number, in the file's order; `types` of all tensors but initializers that
    are no outputs."""

    model: ModelProto
    nodes: tuple[NodeProto, ...]
    types: dict[str, TensorType]

    @classmethod
    def of(cls, model: ModelProto, where: str) -> "Nodes":
        """Raises SystolithError where ONNX Runtime refuses the model, or where an output is not of its type."""
        nodes = _needed(model, model.graph.node)
        _check_zero_points(model, nodes, where)
        stored = _stored(model)
        names = [port.name for port in model.graph.input] + [name for node in nodes for name in node.output]
        types = tensor_types(model, [name for name in dict.fromkeys(names) if name not in stored], where)
        outputs = {port.name for port in model.graph.output}
        types |= {name: kind for name, kind in stored_types(model).items() if name in outputs}
        for output in model.graph.output:
            if output.name in types and output.type.HasField("tensor_type"):
                check_output(output, types[output.name].dtype, where)
        nodes = [_without_shape(node, types) for node in nodes]
        return cls(model, tuple(_needed(model, nodes)), types)

    @cached_property
    def producer(self) -> dict[str, int]:
        """The node that makes a tensor."""
        return {name: i for i, node in enumerate(self.nodes) for name in node.output if name}

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """Inputs of the model, without those that are initializers."""
        stored = _stored(self.model)
        return tuple(port.name for port in self.model.graph.input if port.name not in stored)

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """Outputs of the model."""
        return tuple(port.name for port in self.model.graph.output)

    @cached_property
    def operands(self) -> tuple[tuple[str, ...], ...]:
        """Tensors that each node reads."""
        return tuple(tuple(name for name in dict.fromkeys(reads(node)) if name) for node in self.nodes)

    @cached_property
    def constants(self) -> frozenset[int]:
        """Nodes that make constants."""
        known, found = _stored(self.model), set()
        for i, (node, names) in enumerate(zip(self.nodes, self.operands, strict=True)):
            if known.issuperset(names) and not is_random(node):
                known.update(node.output)
                found.add(i)
        return frozenset(found)

    @cached_property
    def reads(self) -> tuple[tuple[str, ...], ...]:
        """Tensors that each node reads, without constants."""
        constant = _stored(self.model) | {name for i in self.constants for name in self.nodes[i].output}
        return tuple(tuple(name for name in names if name not in constant) for names in self.operands)

    @cached_property
    def light(self) -> frozenset[int]:
        """Nodes that each part has for itself: what makes constants, DequantizeLinear, and QuantizeLinear and views of
        the model's inputs."""
        found = set(self.constants)
        early = set(self.inputs)
        for i, (node, names) in enumerate(zip(self.nodes, self.reads, strict=True)):
            if names and early.issuperset(names) and node.op_type in ("QuantizeLinear", "DequantizeLinear", *VIEWS):
                early.update(node.output)
                found.add(i)
            if node.op_type == "DequantizeLinear":
                found.add(i)
        return frozenset(found)

    def sources(self, names: Iterable[str], light: Collection[int]) -> set[str]:
        """Tensors behind `names`, and behind the light nodes that make those: inputs, or made by nodes that are not
        light."""
        found: set[str] = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            maker = self.producer.get(name, -1)
            if maker in light:
                waiting += self.reads[maker]
            else:
                found.add(name)
        return found

    @cached_property
    def small(self) -> frozenset[str]:
        """Tensors of 8 bits, which may go between accelerator and host."""
        return frozenset(name for name, kind in self.types.items() if kind.dtype in EIGHT_BITS)

    def readers_of_constant(self, index: int) -> list[int]:
        """Nodes, no constants themselves, that read what a constant node makes, or what other such nodes make of it."""
        made = set(self.nodes[index].output)
        found = []
        for i, operands in enumerate(self.operands):
            if made.intersection(operands):
                if i in self.constants:
                    made.update(self.nodes[i].output)
                else:
                    found.append(i)
        return found

    def open_operand(self, index: int) -> str | None:
        """A tensor that a node reads, and another makes, of a shape that only a run knows; None if there is none."""
        made = (name for name in self.reads[index] if name in self.types and name in self.producer)
        return next((name for name in made if self.types[name].fixed is None), None)

    @cached_property
    def stored(self) -> frozenset[str]:
        """Initializers."""
        return frozenset(_stored(self.model))

    def name(self, index: int) -> str:
        """A node's name, or its first output."""
        return self.nodes[index].name or self.nodes[index].output[0]

    def label(self, index: int) -> str:
        """A node as reports have it."""
        return f"{self.nodes[index].op_type} '{self.name(index)}'"

    def macs(self, index: int) -> int:
        """Multiply-accumulates of a node."""
        return macs(self.nodes[index], self._scope)

    @cached_property
    def _scope(self) -> Scope:
        return Scope.of(self.model, (port(name, kind) for name, kind in self.types.items()))


def _stored(model: ModelProto) -> set[str]:
    graph = model.graph
    return {"", *(tensor.name for tensor in graph.initializer), *(t.values.name for t in graph.sparse_initializer)}


def _check_zero_points(model: ModelProto, nodes: Iterable[NodeProto], where: str) -> None:
    """Raises SystolithError for stored zero points that are not as many as the scales: ONNX Runtime reads past them."""
    sizes = {tensor.name: prod(tensor.dims) for tensor in model.graph.initializer}
    for node in nodes:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear") or len(node.input) < 3:
            continue
        scales, zeros = (sizes.get(name) for name in node.input[1:3])
        if scales is not None and zeros is not None and scales != zeros:
            label = f"{node.op_type} '{node.name or node.output[0]}'"
            raise SystolithError(f"{where}: {label}: zero points must be as many as the scales, {scales}, not {zeros}")


def _needed(model: ModelProto, nodes: Sequence[NodeProto]) -> list[NodeProto]:
    """Those of `nodes` that some output depends on, in their order."""
    wanted = {port.name for port in model.graph.output}
    needed = []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(reads(node))
            needed.append(node)
    return needed[::-1]


def reads(node: NodeProto) -> Iterator[str]:
    """Tensors that a node reads, those that graphs in its attributes take from outside included."""
    yield from node.input
    for attribute in node.attribute:
        graphs = [attribute.g] if attribute.type == AttributeProto.GRAPH else attribute.graphs
        for graph in graphs:
            own = {port.name for port in graph.input} | {tensor.name for tensor in graph.initializer}
            own |= {name for inner in graph.node for name in inner.output}
            names = [name for inner in graph.node for name in reads(inner)] + [port.name for port in graph.output]
            yield from (name for name in names if name not in own)


def _without_shape(node: NodeProto, types: dict[str, TensorType]) -> NodeProto:
    """Shape and Size of a tensor are a Constant if they are known: nothing has to wait for the tensor itself. What
    depends on data is computed when the network runs."""
    if node.op_type not in ("Shape", "Size") or node.domain not in ("", "ai.onnx") or node.input[0] not in types:
        return node
    kind = types[node.input[0]]
    sizes: Shape | None = kind.shape
    if node.op_type == "Shape" and sizes is not None:
        bounds = {attribute.name: attribute.i for attribute in node.attribute}
        sizes = sizes[slice(bounds.get("start"), bounds.get("end"))]
    if sizes is None or None in sizes:
        return node
    value = np.array(sizes if node.op_type == "Shape" else prod(kind.fixed or ()), np.int64)
    return helper.make_node("Constant", [], node.output, node.name, value=numpy_helper.from_array(value))
