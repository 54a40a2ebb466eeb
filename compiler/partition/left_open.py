"""Inputs whose first dimension may stay open when a network runs: it is the batch only where the accelerator reads."""

from collections.abc import Iterable, Iterator

from onnx import ModelProto, TensorProto

from systolith.compiler.frontend.model.open_dims import is_open
from systolith.compiler.partition.nodes import reads
from systolith.program import Program

__all__ = ["for_the_host", "left_open"]


READ = (TensorProto.FLOAT, TensorProto.INT8, TensorProto.UINT8)
"""Types of inputs that the accelerator may read."""


def for_the_host(model: ModelProto) -> frozenset[str]:
    """Inputs with an open first dimension of a type that the accelerator does not read."""
    ports = (port for port in model.graph.input if is_open(port))
    return frozenset(port.name for port in ports if port.type.tensor_type.elem_type not in READ)


def left_open(model: ModelProto, programs: Iterable[Program]) -> Iterator[frozenset[str]]:
    """Sets of inputs that may stay open, the largest first: those that no program reads, nor one whose first dimension
    has the same name; then those of them on which no program depends. What comes of an input that is left open may
    have no known shape, so that fewer nodes run on the accelerator: whoever asks must see to that."""
    names = {port.name: port.type.tensor_type.shape.dim[0].dim_param for port in model.graph.input if is_open(port)}
    ports = {port.name for program in programs for port in (*program.inputs, *program.outputs)}
    batches = {names[name] for name in ports & names.keys()} - {""}
    free = frozenset(name for name in names if name not in ports and names[name] not in batches)
    apart = frozenset(name for name in free if ports.isdisjoint(_behind(model, name)))
    yield from (found for found in dict.fromkeys((free, apart)) if found)


def _behind(model: ModelProto, name: str) -> set[str]:
    """What depends on a tensor."""
    found = {name}
    for node in model.graph.node:
        if not found.isdisjoint(reads(node)):
            found.update(node.output)
    return found - {""}
