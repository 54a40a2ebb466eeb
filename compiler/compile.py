"""`compile_model`: ONNX to program. The pipeline, each arrow a plain function: import, plan, schedule, synchronize, generate,
check."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from systolith.compiler.check import check
from systolith.compiler.codegen import generate
from systolith.compiler.ir import Graph, Port, verify
from systolith.compiler.jobs import candidates, plain
from systolith.compiler.memory import Place, largest_hole, place_tensors, words_of
from systolith.compiler.onnx_file import read_model
from systolith.compiler.onnx_import import import_model
from systolith.compiler.schedule import Planned, Step, schedule
from systolith.compiler.sync import synchronize
from systolith.compiler.tiling import choose_plan
from systolith.config import Config
from systolith.errors import SystolithError
from systolith.isa import Instruction, encode_program
from systolith.program import Layout, Program, Tensor

__all__ = ["Compiled", "compile_graph", "compile_levels", "compile_model", "compile_source", "plan_graph"]


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


def plan_graph(graph: Graph, config: Config) -> tuple[tuple[Planned, ...], int]:
    """A plan for every layer and a place for every tensor, and the bytes of scratch memory. Tensors that leave too little
    room for a layer's staging buffers go to memory instead, the largest first."""
    spilled: frozenset[str] = frozenset()
    while True:
        places, scratch_bytes = place_tensors(graph, config, spilled)
        planned = []
        try:
            for index in range(len(graph.layers)):
                planned.append(_plan_layer(graph, index, config, places))
        except SystolithError:
            resident = [name for name, place in places.items() if place.sram is not None]
            if not resident:
                raise
            here = [name for name in (graph.layers[index].input, graph.layers[index].output) if name in resident]
            spilled |= {max(here or resident, key=lambda name: words_of(graph, name, config.array))}
            continue
        return tuple(planned), scratch_bytes


def _plan_layer(graph: Graph, index: int, config: Config, places: Mapping[str, Place]) -> Planned:
    layer = graph.layers[index]
    source, target = places[layer.input], places[layer.output]
    hole = largest_hole(places, graph, config, index)
    resident, staged = source.sram is not None, target.sram is None
    jobs = [plain(graph, index, config.array)] if resident else candidates(graph, index, config.array)
    plans = [(choose_plan(job, config, hole[1], resident, staged), job) for job in jobs]
    plan, job = min(plans, key=lambda item: item[0].costs.all)
    return Planned(job, plan, source, target, hole)


def _tensor(graph: Graph, port: Port, places: Mapping[str, Place], packed: set[str]) -> Tensor:
    value, place = graph.values[port.value], places[port.value]
    zero_point = value.zero_point + (128 if port.quantized == "uint8" else 0)
    return Tensor(
        port.name,
        port.shape,
        port.dtype,
        place.region,
        place.offset,
        value.dims,
        port.order,
        Layout.PIXELS if port.value in packed else Layout.BLOCKED,
        port.quantized,
        value.scale,
        zero_point,
    )


def _meta(graph: Graph, planned, layers: list[int], config: Config) -> dict[str, Any]:
    records = []
    for index, (layer, item) in enumerate(zip(graph.layers, planned, strict=True)):
        mine = [i for i, owner in enumerate(layers) if owner == index]
        records.append(
            {
                "name": layer.name,
                "op": layer.op,
                "macs": layer.macs(graph),
                "first": mine[0],
                "last": mine[-1],
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
