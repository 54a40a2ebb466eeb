"""Pipeline from ONNX to program, `compile_model`: import, passes, plan, schedule, order, check; each a plain function.

Order includes drains, tokens and CONFIGs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from systolith.compiler.check.check import check
from systolith.compiler.frontend.importer import import_model
from systolith.compiler.frontend.model.reader import read_model
from systolith.compiler.ir.graph import Graph, Port
from systolith.compiler.ir.verify import verify
from systolith.compiler.order.order import ordered
from systolith.compiler.passes.channels.lower import lower
from systolith.compiler.passes.fuse import fuse
from systolith.compiler.passes.prove_accumulators import prove_accumulators
from systolith.compiler.passes.separate_pools import separate
from systolith.compiler.plan.placement import Place
from systolith.compiler.plan.plan import Planned, plan_graph
from systolith.compiler.report.meta import describe
from systolith.compiler.schedule.layer import schedule
from systolith.compiler.schedule.step import Step
from systolith.config import Config
from systolith.isa import Instruction, encode_program
from systolith.program import Layout, Program, Tensor

__all__ = ["PASSES", "Compiled", "compile_graph", "compile_levels", "compile_model", "compile_source", "prepare"]

PASSES: tuple[Callable[[Graph, Config], Graph], ...] = (fuse, separate, lower)
"""What makes an imported graph one for a configuration, in order."""


@dataclass(frozen=True)
class Compiled:
    """Every level of a compilation, for printing."""

    graph: Graph
    planned: tuple[Planned, ...]
    steps: list[Step]
    instructions: list[Instruction]
    program: Program


def compile_model(source: bytes | Path, config: Config, batch: int = 1) -> Program:
    """An ONNX file, or its bytes, as a checked program for `config`; `batch` replaces a dynamic batch."""
    return compile_source(source, config, batch).program


def compile_source(source: bytes | Path, config: Config, batch: int = 1) -> Compiled:
    """Like `compile_model`, with every level between. The program keeps the model with its external data inside."""
    graph = import_model(source, batch=batch)
    return compile_levels(
        graph, config, source if isinstance(source, bytes) else read_model(source).SerializeToString()
    )


def compile_graph(graph: Graph, config: Config, model: bytes = b"") -> Program:
    """A graph as a checked program for `config`. `model` is kept in the program for later comparison."""
    return compile_levels(graph, config, model).program


def prepare(graph: Graph, config: Config) -> Graph:
    """The graph, whose sums fit int32, after all passes, each one verified."""
    graph = prove_accumulators(verify(graph))
    for function in PASSES:
        graph = verify(function(graph, config))
    return graph


def compile_levels(graph: Graph, config: Config, model: bytes = b"") -> Compiled:
    """Like `compile_graph`, with every level between."""
    graph = prepare(graph, config)
    planning = plan_graph(graph, config)
    planned, places = planning.planned, planning.memory.places
    steps, weights = schedule(planned, config)
    order = ordered(steps, config)
    code = encode_program(order.instructions)
    packed = {item.job.layer.input for item in planned if item.job.gather is not None}
    program = Program(
        config.fingerprint,
        config.array,
        code,
        weights,
        tuple(_tensor(graph, port, places, packed) for port in graph.inputs),
        tuple(_tensor(graph, port, places, packed) for port in graph.outputs),
        planning.memory.scratch_bytes,
        model,
        describe(graph, planning, order.owners, config),
    )
    check(code, config, program.region_bytes())
    return Compiled(graph, planned, order.steps, order.instructions, program)


def _tensor(graph: Graph, port: Port, places: Mapping[str, Place], packed: set[str]) -> Tensor:
    value, place = graph.values[port.value], places[port.value]
    zero_point = value.zero_point + (128 if port.quantized == "uint8" else 0)
    return Tensor(
        port.name,
        port.shape,
        port.dtype,
        place.home,
        place.offset,
        value.dims,
        port.order,
        Layout.PIXELS if port.value in packed else Layout.BLOCKED,
        port.quantized,
        value.scale,
        zero_point,
    )
