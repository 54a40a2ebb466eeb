"""Overlap of layers: a new program order, in which each unit takes any step that is ready.
 Every order is correct that keeps the order of conflicting steps. The steps are run on a model of the machine with the
durations of the timeline: a free unit takes the first step, in the given order, whose predecessors are far enough. Sums
move between the halves of the accumulators: a chain of steps takes a half when it starts, and frees it when it was
read.
"""

import heapq
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import replace

from systolith.compiler.order.access import UNIT_OF
from systolith.compiler.order.conflicts import NEVER, before, chains
from systolith.compiler.order.durations import cycles, latency, starved, tile_cycles
from systolith.compiler.schedule.step import Step
from systolith.config import Config
from systolith.isa import SfuSource, Unit

__all__ = ["gain", "interleave"]

LOOK_AHEAD = 3
"""Layers after the first one that is not done whose steps may start."""
PORT = Unit.LOAD_W
"""Both load units share the read port: one of them at a time."""


def gain(steps: Sequence[Step], config: Config) -> float:
    """At most this much of the time can be saved, about: all units at work all the time, against only the busiest one
    of each layer."""
    work: dict[int, dict[Unit, int]] = {}
    for step in steps:
        layer = work.setdefault(step.layer, dict.fromkeys(Unit, 0))
        layer[_resource(step)] += _cycles(step, config)
    now = sum(max(layer.values()) for layer in work.values())
    least = max((sum(layer[unit] for layer in work.values()) for unit in Unit), default=0)
    return 1 - least / now if now else 0.0


def interleave(steps: Sequence[Step], config: Config) -> list[Step]:
    """The same steps in another order, with other halves of the accumulators."""
    machine = _Machine(steps, config)
    return [_moved(steps[index], machine.half[machine.chain[index]], config) for index in machine.run()]


class _Halves:
    """The halves of a unit's accumulators, and who has them; `left`: the chains that are not done, in order."""

    def __init__(self):
        self.owner: list[int | None] = [None, None]
        self.free = [0, 0]
        self.left: deque[int] = deque()
        self.done: set[int] = set()
        self.waiting: list[int] = []

    def choose(self, chain: int) -> int | None:
        """The half for a chain that wants to start. The first chain that is not done always finds one: what it does
        may have to come before what the others do next."""
        while self.left[0] in self.done:
            self.done.remove(self.left.popleft())
        halves = [half for half in (0, 1) if self.owner[half] is None]
        if not halves or (len(halves) == 1 and self.left[0] not in (chain, *self.owner)):
            return None
        return min(halves, key=lambda half: self.free[half])

    def release(self, chain: int, time: int) -> list[int]:
        """A chain is done at a time; returns those that wait."""
        half = self.owner.index(chain)
        self.owner[half], self.free[half] = None, time
        self.done.add(chain)
        waiting, self.waiting = self.waiting, []
        return waiting


class _Machine:
    def __init__(self, steps: Sequence[Step], config: Config):
        self.steps, self.config = steps, config
        self.unit = [_resource(step) for step in steps]
        self.chain = chains(steps, config)
        self.after: list[list[int]] = [[] for _ in steps]
        self.missing: list[int] = []
        for index, givers in enumerate(before(steps, config)):
            self.missing.append(len(givers))
            for giver in givers:
                self.after[giver].append(index)
        self.members = Counter(self.chain)
        self.halves = {unit: _Halves() for unit in Unit}
        for index, chain in enumerate(self.chain):
            if index == chain:
                self.halves[self.unit[index]].left.append(index)
        self.half = {NEVER: 0}
        self.ready = [0] * len(steps)
        self.free = dict.fromkeys(Unit, 0)
        self.arrivals: dict[Unit, list[tuple[int, int]]] = {unit: [] for unit in Unit}
        self.pool: dict[Unit, list[int]] = {unit: [] for unit in Unit}
        self.held: list[tuple[int, int]] = []
        self.started = [False] * len(steps)
        self.first = self.tile = 0

    def run(self) -> Iterator[int]:
        """Steps by the time at which they start."""
        for index, missing in enumerate(self.missing):
            if not missing:
                self._arrive(index, 0)
        while active := [unit for unit in Unit if self.pool[unit] or self.arrivals[unit]]:
            unit = min(active, key=self._next)
            now = self._next(unit)
            while self.arrivals[unit] and self.arrivals[unit][0][0] <= now:
                heapq.heappush(self.pool[unit], heapq.heappop(self.arrivals[unit])[1])
            index = heapq.heappop(self.pool[unit])
            if self.chain[index] != index or self._take(index, now):
                self._start(index, now)
                yield index
        assert all(self.started)

    def _next(self, unit: Unit) -> int:
        """When a unit can start its next step."""
        return self.free[unit] if self.pool[unit] else max(self.free[unit], self.arrivals[unit][0][0])

    def _arrive(self, index: int, time: int) -> None:
        """A step is ready at a time, or held until its layer is near."""
        layer = self.steps[index].layer
        if layer > self.steps[self.first].layer + LOOK_AHEAD:
            heapq.heappush(self.held, (layer, index))
        else:
            heapq.heappush(self.arrivals[self.unit[index]], (time, index))

    def _take(self, chain: int, now: int) -> bool:
        """Take a half of the accumulators, or wait for one."""
        halves = self.halves[self.unit[chain]]
        half = halves.choose(chain)
        if half is None:
            halves.waiting.append(chain)
        elif halves.free[half] > now:
            self._arrive(chain, halves.free[half])
        else:
            halves.owner[half], self.half[chain] = chain, half
            return True
        return False

    def _start(self, index: int, now: int) -> None:
        unit, chain = self.unit[index], self.chain[index]
        end = now + self._work(index, now)
        done = end + latency(unit, self.config)
        self.free[unit], self.started[index] = end, True
        self.members[chain] -= 1
        if chain != NEVER and not self.members[chain]:
            for waiting in self.halves[self.unit[chain]].release(chain, done):
                self._arrive(waiting, done)
        for taker in self.after[index]:
            self.ready[taker] = max(self.ready[taker], end if self.unit[taker] == unit else done)
            self.missing[taker] -= 1
            if not self.missing[taker]:
                self._arrive(taker, self.ready[taker])
        while self.first < len(self.steps) - 1 and self.started[self.first]:
            self.first += 1
        while self.held and self.held[0][0] <= self.steps[self.first].layer + LOOK_AHEAD:
            waiting = heapq.heappop(self.held)[1]
            self._arrive(waiting, max(now, self.ready[waiting]))

    def _work(self, index: int, now: int) -> int:
        """What a step that starts takes of its unit."""
        step, unit = self.steps[index], self.unit[index]
        work = _cycles(step, self.config)
        if unit == Unit.EXECUTE:
            self.tile = tile_cycles(step.fields, self.config)
        elif unit == Unit.DEPTHWISE and now < self.free[Unit.EXECUTE]:
            idle = now > self.free[unit]
            work += starved(step.fields, _constants(step), self.tile, self.config, idle)
        return work


def _resource(step: Step) -> Unit:
    """What a step keeps: a unit, or the read port."""
    unit = UNIT_OF[step.name]
    return PORT if unit == Unit.LOAD_A else unit


def _cycles(step: Step, config: Config) -> int:
    return cycles(UNIT_OF[step.name], step.fields, _constants(step), config)


def _constants(step: Step) -> dict[str, int]:
    """As "group.field"."""
    return {
        f"{name.split('.')[-1]}.{key}": value for name, group in step.constants.items() for key, value in group.items()
    }


def _moved(step: Step, half: int, config: Config) -> Step:
    """A step with its sums in a half of the accumulators."""
    if step.name == "SFU":
        sizes: dict[int, int] = {SfuSource.ACCUMULATORS: config.acc_half, SfuSource.DEPTHWISE: config.dw_half}
        name, size = "source", sizes.get(step.fields["memory"])
    else:
        name, size = "acc", {"EXECUTE": config.acc_half, "DEPTHWISE": config.dw_half}.get(step.name)
    if size is None:
        return step
    return replace(step, fields={**step.fields, name: step.fields[name] % size + half * size})
