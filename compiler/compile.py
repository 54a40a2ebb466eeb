"""`compile_model`: ONNX to program. The pipeline, each arrow a plain function: import, plan, schedule, synchronize,
generate, check."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from systolith.compiler.check import check
from systolith.compiler.codegen import generate
from systolith.compiler.ir import Graph, Port, verify
from systolith.compiler.memory import Place, words_of
from systolith.compiler.onnx_file import read_model
from systolith.compiler.onnx_import import import_model
from systolith.compiler.plan import Planned, plan_graph
from systolith.compiler.schedule import schedule
from systolith.compiler.step import Step
from systolith.compiler.sync import synchronize
from systolith.config import Config
from systolith.isa import Instruction, encode_program
from systolith.program import Layout, Program, Tensor

__all__ = ["Compiled", "compile_graph", "compile_levels", "compile_model", "compile_source"]


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


def compile_levels(graph: Graph, config: Config, model: bytes = b"") -> Compiled:
    """Like `compile_graph`, with every level between."""
    planned, scratch_bytes = plan_graph(verify(graph), config)
    steps, weights = schedule(graph, planned, config)
    instructions, layers = generate(steps, synchronize(steps, config))
    code = encode_program(instructions)
    places = {
        name: place
        for item in planned
        for name, place in ((item.job.layer.input, item.source), (item.job.layer.output, item.target))
    }
    packed = {item.job.layer.input for item in planned if item.job.gather is not None}
    program = Program(
        config.fingerprint,
        config.array,
        code,
        weights,
        tuple(_tensor(graph, port, places, packed) for port in graph.inputs),
        tuple(_tensor(graph, port, places, packed) for port in graph.outputs),
        scratch_bytes,
        model,
        _meta(graph, planned, layers, config),
    )
    check(code, config, program.region_bytes())
    return Compiled(graph, planned, steps, instructions, program)


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


def _meta(graph: Graph, planned, layers: list[int], config: Config) -> dict[str, Any]:
    spans: dict[int, tuple[int, int]] = {}
    for index, owner in enumerate(layers):
        spans[owner] = (spans.get(owner, (index, index))[0], index)
    records = []
    for index, (layer, item) in enumerate(zip(graph.layers, planned, strict=True)):
        first, last = spans[index]
        records.append(
            {
                "name": layer.name,
                "op": layer.op,
                "macs": layer.macs(graph),
                "first": first,
                "last": last,
                "estimate": asdict(item.plan.costs),
                "packing": item.job.packing,
                "keep": item.plan.keep.value,
            }
        )
    memory = {
        name: {
            "sram": place.sram,
            "words": words_of(graph, name, config.array),
            "region": place.region.name if place.region is not None else None,
            "offset": place.offset,
        }
        for item in planned
        for name, place in ((item.job.layer.input, item.source), (item.job.layer.output, item.target))
    }
    return {"model": graph.name, "layers": records, "memory": memory, "notes": list(graph.notes)}
