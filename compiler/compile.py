"""`compile_model`: ONNX to program. The pipeline, each arrow a plain function: import, plan, schedule, synchronize,
generate, check."""

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

SLOW = 1.02
"""A layer that takes longer than this times its array cycles may be short of activation SRAM."""


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
    """A plan for every layer and a place for every tensor, and the bytes of scratch memory.

    Tensors stay in activation SRAM, except those that leave too little room for a layer's staging buffers, or so little
    that all layers together take longer than with the tensor in memory.
    """
    plans: dict = {}
    spilled: frozenset[str] = frozenset()
    while True:
        try:
            best = _plan_all(graph, config, spilled, plans)
            break
        except _NoRoom as error:
            spilled |= {error.tensor}
    for index, layer in enumerate(graph.layers):
        costs = best[0][index].plan.costs
        if costs.all > SLOW * costs.array:
            for name in (layer.input, layer.output):
                best = _without(graph, config, name, best, plans)
    return best


def _without(graph: Graph, config: Config, name: str, best, plans: dict):
    """The better of a plan and one with a tensor in memory that it keeps in SRAM."""
    resident = {item.job.layer.output for item in best[0] if item.target.sram is not None}
    if name not in resident:
        return best
    kept = resident - {name}
    try:
        other = _plan_all(graph, config, frozenset(graph.values) - kept, plans)
    except _NoRoom:
        return best
    return min(best, other, key=lambda result: sum(item.plan.costs.all for item in result[0]))


def _plan_all(graph: Graph, config: Config, spilled: frozenset[str], plans: dict) -> tuple[tuple[Planned, ...], int]:
    places, scratch_bytes = place_tensors(graph, config, spilled)
    return tuple(_plan_layer(graph, i, config, places, plans) for i in range(len(graph.layers))), scratch_bytes


def _plan_layer(graph: Graph, index: int, config: Config, places: Mapping[str, Place], plans: dict) -> Planned:
    """The best job and plan of a layer; `plans` remembers them by what they depend on."""
    layer = graph.layers[index]
    source, target = places[layer.input], places[layer.output]
    hole = largest_hole(places, graph, config, index)
    key = index, hole[1], source.sram is not None, target.sram is None
    if key not in plans:
        try:
            plans[key] = _choose(graph, config, *key)
        except SystolithError:
            resident = [name for name, place in places.items() if place.sram is not None]
            if not resident:
                raise
            near = [name for name in (layer.input, layer.output) if name in resident]
            raise _NoRoom(max(near or resident, key=lambda name: words_of(graph, name, config.array))) from None
    job, plan = plans[key]
    return Planned(job, plan, source, target, hole)


def _choose(graph: Graph, config: Config, index: int, space: int, resident: bool, staged: bool):
    jobs = [plain(graph, index, config.array)] if resident else candidates(graph, index, config.array)
    found = [(job, choose_plan(job, config, space, resident, staged)) for job in jobs]
    return min(found, key=lambda item: item[1].costs.all)


class _NoRoom(Exception):
    """A layer does not fit beside the tensors in activation SRAM; `tensor` is the one to move to memory."""

    def __init__(self, tensor: str):
        super().__init__(tensor)
        self.tensor = tensor


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
