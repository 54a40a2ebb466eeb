"""A plan for every layer and a place for every tensor of a graph."""

from collections.abc import Mapping
from dataclasses import dataclass

from systolith.compiler.ir import Graph
from systolith.compiler.jobs import Job, plain
from systolith.compiler.memory import Place, largest_hole, place_tensors, words_of
from systolith.compiler.packing import candidates
from systolith.compiler.tiling import Plan, choose_plan
from systolith.config import Config
from systolith.errors import SystolithError

__all__ = ["Planned", "plan_graph"]

SLOW = 1.02
"""A layer that takes longer than this times its array cycles may be short of activation SRAM."""


@dataclass(frozen=True)
class Planned:
    """A job, its plan, the places of its input and output, and the part of activation SRAM for staging buffers."""

    job: Job
    plan: Plan
    source: Place
    target: Place
    hole: tuple[int, int]


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
