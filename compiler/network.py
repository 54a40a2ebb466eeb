"""Compilation of a whole model, `compile_network`: one program, or a network in parts with nodes for the host."""

from dataclasses import dataclass
from pathlib import Path

from systolith.compiler.frontend.importer import import_model
from systolith.compiler.frontend.model.reader import read_model
from systolith.compiler.partition.partition import AcceleratorPart, Partition
from systolith.compiler.pipeline import Compiled, compile_levels
from systolith.config import Config
from systolith.errors import SystolithError, UnsupportedError
from systolith.network import HostPart, Network
from systolith.program import Program

__all__ = ["CompiledNetwork", "compile_network", "compile_parts"]


LISTED = 8
"""Nodes in an error of `strict`."""


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
        partition = Partition(model, where, batch)
    except SystolithError as error:
        reason = str(error).removeprefix(f"{where}: ")
        raise UnsupportedError(f"{unsupported}; no host can run it: {reason}", unsupported.node) from None
    return _compile_split(partition, config, model, strict)


def _compile_split(partition: Partition, config: Config, model: bytes, strict: bool) -> CompiledNetwork:
    """The parts that the front end and the back end both accept."""
    done: dict[bytes, Compiled] = {}
    parts = _parts(partition, strict)
    while missing := [p for p in parts if isinstance(p, AcceleratorPart) and p.model not in done]:
        try:
            done[missing[0].model] = compile_levels(missing[0].graph, config, missing[0].model)
        except UnsupportedError as error:
            partition.to_host(error, missing[0].nodes)
            parts = _parts(partition, strict)
    compiled = tuple(part if isinstance(part, HostPart) else done[part.model] for part in parts)
    runs = tuple(part if isinstance(part, HostPart) else part.program for part in compiled)
    whole = partition.all
    network = Network(
        whole.model.graph.name,
        runs,
        partition.signatures(whole.inputs),
        partition.signatures(whole.outputs),
        model,
    )
    return CompiledNetwork(compiled, network)


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
