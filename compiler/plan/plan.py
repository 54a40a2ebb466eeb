"""Plan for every layer, and a place for every tensor of a graph, with spills."""

from collections.abc import Mapping
from dataclasses import dataclass

from systolith.compiler.ir.graph import Conv, Graph, Layer
from systolith.compiler.jobs.candidates import candidates
from systolith.compiler.jobs.depthwise import is_depthwise
from systolith.compiler.jobs.job import Job
from systolith.compiler.layout.layout import layout_of, root_of, words_of
from systolith.compiler.plan.liveness import Lifetime, lifetimes
from systolith.compiler.plan.placement import Place, Placement, place_tensors
from systolith.compiler.plan.tiling import Plan, Room, choose_plan
from systolith.config import Config
from systolith.errors import UnsupportedError
from systolith.isa import Unit

__all__ = ["Planned", "Planning", "plan_graph"]

FINE = 0.01
"""Part of a layer's time that tiles for overlap may cost, in a network in which two units can share the work."""
SLOW = 1.02
"""A layer that takes longer than this times what its work takes may be short of activation SRAM."""


@dataclass(frozen=True)
class Planned:
    """A job, its plan, the places where its input, output and second operand begin, and the part of activation SRAM
    for staging buffers."""

    job: Job
    plan: Plan
    source: Place
    target: Place
    operand: Place | None
    hole: tuple[int, int]


@dataclass(frozen=True)
class Planning:
    """A plan for every layer, and places of the tensors that hold values (`layout.root_of`)."""

    planned: tuple[Planned, ...]
    memory: Placement

    @property
    def cycles(self) -> int:
        """Of all layers one after the other, as estimated."""
        return sum(item.plan.costs.all for item in self.planned)


def plan_graph(graph: Graph, config: Config) -> Planning:
    """A plan for every layer and a place for every tensor.

    Tensors stay in activation SRAM, except those that leave too little room for a layer's staging buffers, or so little
    that all layers together take longer than with the tensor in memory.
    """
    plans: dict = {}
    lives = lifetimes(graph, config.array)
    spilled: frozenset[str] = frozenset()
    while True:
        try:
            best = _plan_all(graph, lives, config, spilled, plans)
            break
        except _NoRoom as error:
            spilled |= {error.tensor}
    for index in range(len(graph.layers)):
        for names in _suspects(graph, index, best, config):
            best = _without(graph, config, names, best, plans)
    return _apart(graph, config, best, plans)


def _apart(graph: Graph, config: Config, best: Planning, plans: dict) -> Planning:
    """The same with tensors that neighbouring layers write and read in different words, if that costs nothing."""
    resident = _resident(best)
    try:
        other = _plan_all(graph, best.memory.lives, config, frozenset(graph.values) - resident, plans, early=1)
    except _NoRoom:
        return best
    return other if _resident(other) == resident and other.cycles <= best.cycles else best


def _suspects(graph: Graph, index: int, best: Planning, config: Config) -> list[frozenset[str]]:
    """Tensors in activation SRAM that may be what makes a layer slower than it has to be: first its own, then what
    else lives; each with those that share its words."""
    item = best.planned[index]
    if item.plan.costs.all <= SLOW * _least(item, config):
        return []
    lives, places = best.memory.lives, best.memory.places
    alive = {
        name: (places[name].word, places[name].word + life.words)
        for name, life in lives.items()
        if life.first <= index <= life.last and places[name].sram is not None
    }

    def sharing(name: str) -> frozenset[str]:
        return frozenset(n for n, (low, high) in alive.items() if low < alive[name][1] and alive[name][0] < high)

    own = [name for name in _roots(graph, graph.layers[index]) if name in alive]
    sets = [found for name in (*own, *alive) for found in (frozenset({name}), sharing(name))]
    return list(dict.fromkeys(sets))


def _least(item: Planned, config: Config) -> int:
    """Cycles that the layer's work takes on its unit, however it is cut."""
    job = item.job
    if job.unit != Unit.EXECUTE:
        return item.plan.costs.array
    return job.images * job.out_blocks * job.k_tiles * max(job.rows * job.cols, config.array)


def _without(graph: Graph, config: Config, names: frozenset[str], best: Planning, plans: dict) -> Planning:
    """The better of a plan and one with tensors in memory that it keeps in SRAM."""
    resident = _resident(best)
    if not names <= resident:
        return best
    try:
        other = _plan_all(graph, best.memory.lives, config, frozenset(graph.values) - (resident - names), plans)
    except _NoRoom:
        return best
    return min(best, other, key=lambda result: result.cycles)


def _plan_all(
    graph: Graph, lives: Mapping[str, Lifetime], config: Config, spilled: frozenset[str], plans: dict, early: int = 0
) -> Planning:
    memory = place_tensors(graph, lives, config, spilled, early)
    return Planning(tuple(_plan_layer(graph, i, config, memory, plans) for i in range(len(graph.layers))), memory)


def _resident(planning: Planning) -> set[str]:
    return {root for root, place in planning.memory.places.items() if place.sram is not None}


def _plan_layer(graph: Graph, index: int, config: Config, memory: Placement, plans: dict) -> Planned:
    """The best job and plan of a layer; `plans` remembers them by what they depend on."""
    layer, places, hole = graph.layers[index], memory.places, memory.holes[index]
    target, source, *operand = (_begin(graph, config, name, places) for name in (layer.output, *layer.inputs))
    fetched = bool(operand) and operand[0].sram is None
    key = index, Room(hole[1], source.sram is not None, target.sram is None, fetched)
    if key not in plans:
        plans[key] = _ways(graph, config, *key)
    ways, refused = plans[key]
    if refused:
        resident = {root for root, place in places.items() if place.sram is not None}
        near = resident.intersection(_roots(graph, layer)) or resident
        if near:
            raise _NoRoom(max(sorted(near), key=lambda name: words_of(graph, name, config.array)))
    if not ways:
        raise refused[0]
    job, plan = min(ways, key=lambda item: item[1].costs.all)
    return Planned(job, plan, source, target, operand[0] if operand else None, hole)


def _ways(
    graph: Graph, config: Config, index: int, room: Room
) -> tuple[list[tuple[Job, Plan]], list[UnsupportedError]]:
    """Every way to run a layer, with its best plan, and why those that find no room are refused."""
    fine = any(isinstance(layer, Conv) and is_depthwise(layer, config) for layer in graph.layers)
    slack = FINE if fine else 0.0
    ways, refused = [], []
    for job in candidates(graph, index, config, room.resident):
        try:
            ways.append((job, choose_plan(job, config, room, slack)))
        except UnsupportedError as error:
            refused.append(error)
    return ways, refused


def _begin(graph: Graph, config: Config, name: str, places: Mapping[str, Place]) -> Place:
    """Where a value begins: somewhere in the tensor that holds it."""
    layout = layout_of(graph, name, config.array)
    root = places[layout.root]
    return Place(
        None if root.sram is None else root.sram + layout.first, root.region, root.offset + layout.first * config.array
    )


def _roots(graph: Graph, layer: Layer) -> list[str]:
    """The tensors a layer reads and writes."""
    return list(dict.fromkeys(root_of(graph, name) for name in (*layer.inputs, layer.output)))


class _NoRoom(Exception):
    """A layer does not fit beside the tensors in activation SRAM; `tensor` is the one to move to memory."""

    def __init__(self, tensor: str):
        super().__init__(tensor)
        self.tensor = tensor
