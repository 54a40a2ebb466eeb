"""Compilation of a whole model, `compile_network`: one program, or a network in parts with nodes for the host."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from onnx import ModelProto

from systolith.compiler.frontend.importer import import_model
from systolith.compiler.frontend.model.open_dims import is_open
from systolith.compiler.frontend.model.reader import read_model
from systolith.compiler.partition.left_open import for_the_host, left_open
from systolith.compiler.partition.partition import AcceleratorPart, Partition
from systolith.compiler.pipeline import Compiled, compile_levels
from systolith.config import Config
from systolith.errors import SystolithError, UnsupportedError
from systolith.network import HostPart, Network
from systolith.program import Program

__all__ = ["CompiledNetwork", "compile_network", "compile_parts"]


LISTED = 8
"""Nodes in an error of `strict`."""


class _NotCompiledError(Exception):
    """A part is none of those before."""


@dataclass(frozen=True)
class CompiledNetwork:
    """What runs, and the levels of each part for printing."""

    parts: tuple[Compiled | HostPart, ...]
    result: Program | Network


def compile_network(source: bytes | Path, config: Config, batch: int = 1, strict: bool = False) -> Program | Network:
    """An ONNX file, or its bytes, compiled for `config`; `batch` replaces a dynamic batch.

    Nodes that the accelerator cannot run become parts for the host; with `strict` they are an error that lists them.
    """
    return compile_parts(source, config, batch, strict).result


def compile_parts(source: bytes | Path, config: Config, batch: int = 1, strict: bool = False) -> CompiledNetwork:
    """Like `compile_network`, with every level between."""
    where = str(source) if isinstance(source, Path) else "model"
    model = read_model(source, where).SerializeToString()
    try:
        compiled = compile_levels(import_model(model, where, batch), config, model)
        return CompiledNetwork((compiled,), compiled.program)
    except UnsupportedError as error:
        unsupported = error
    try:
        partition = _partition(model, where, batch)
    except SystolithError as error:
        reason = str(error).removeprefix(f"{where}: ")
        raise UnsupportedError(f"{unsupported}; no host can run it: {reason}", unsupported.node) from None
    return _compile_split(model, where, partition, config, batch, strict)


def _partition(model: bytes, where: str, batch: int) -> Partition:
    """The model's. Where ONNX Runtime refuses it with that batch, inputs that the host alone can read have none."""
    try:
        return Partition(model, where, batch)
    except SystolithError:
        names = for_the_host(ModelProto.FromString(model))
        with suppress(SystolithError):
            if names:
                return Partition(model, where, batch, names)
        raise


def _compile_split(model: bytes, where: str, partition: Partition, config: Config, batch: int,
                   strict: bool) -> CompiledNetwork:  # fmt: skip
    """The parts that the front end and the back end both accept; what first dimensions can stay open does."""
    done: dict[bytes, Compiled | UnsupportedError] = {}

    def compiled(part: AcceleratorPart) -> Compiled:
        if part.model not in done:
            try:
                done[part.model] = compile_levels(part.graph, config, part.model)
            except UnsupportedError as error:
                done[part.model] = error
        return known(part)

    def known(part: AcceleratorPart) -> Compiled:
        found = done.get(part.model)
        if isinstance(found, Compiled):
            return found
        raise found or _NotCompiledError

    parts = _accepted(partition, compiled, strict)
    proto = ModelProto.FromString(model)
    for names in left_open(proto, _programs(parts)):
        try:
            other = Partition(model, where, batch, names)
            found = _accepted(other, known)
        except (SystolithError, _NotCompiledError):
            continue
        if _programs(found) == _programs(parts):
            partition, parts = other, found
            break
    whole = partition.all
    if batch != 1 and not any(is_open(port) and not is_open(fixed) for port, fixed in
                              zip(proto.graph.input, whole.model.graph.input, strict=True)):  # fmt: skip
        raise SystolithError(
            f"{where}: batch must be 1, as the accelerator reads no input that leaves it open, not {batch}"
        )
    network = Network(
        whole.model.graph.name,
        tuple(part if isinstance(part, HostPart) else part.program for part in parts),
        partition.signatures(whole.inputs),
        partition.signatures(whole.outputs),
        model,
    )
    return CompiledNetwork(parts, network)


def _accepted(
    partition: Partition, compiled: Callable[[AcceleratorPart], Compiled], strict: bool = False
) -> tuple[Compiled | HostPart, ...]:
    """The parts, compiled; nodes that the back end refuses move to the host."""
    while True:
        found: list[Compiled | HostPart] = []
        for part in _parts(partition, strict):
            if isinstance(part, HostPart):
                found.append(part)
                continue
            try:
                found.append(compiled(part))
            except UnsupportedError as error:
                partition.to_host(error, part.nodes)
                break
        else:
            return tuple(found)


def _programs(parts: tuple[Compiled | HostPart, ...]) -> list[Program]:
    """Those of the accelerator's parts."""
    return [part.program for part in parts if isinstance(part, Compiled)]


def _parts(partition: Partition, strict: bool) -> tuple[AcceleratorPart | HostPart, ...]:
    """The parts; with `strict`, raises SystolithError, which lists nodes, if one is for the host."""
    parts = partition.parts()
    nodes = [node for part in parts if isinstance(part, HostPart) for node in part.nodes] if strict else []
    if nodes:
        reasons = [f"{node.op} '{node.name}': {node.reason}" for node in nodes[:LISTED]]
        more = [f"and {len(nodes) - LISTED} more"] if len(nodes) > LISTED else []
        listed = "; ".join(reasons + more)
        raise SystolithError(
            f"{partition.where}: all nodes must run on the accelerator, and {len(nodes)} cannot: {listed}"
        )
    return parts
