"""Timeline: an estimate of when each instruction runs, at the grain of instructions and bursts.

It models queues, tokens, the shared read port (the two load units take turns, burst by burst), the array's max(M, N)
cycles a K tile, the passes of the depthwise unit, and the lanes and windows of the SFU. It does not model bank
conflicts, refresh of a real memory, and 4 KiB splits. It serves to choose between schedules and to see where cycles go.
The RTL has the last word.
"""

import heapq
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from systolith.compiler.order.durations import READ_LATENCY, cycles, latency, starved, tile_cycles
from systolith.config import Config
from systolith.isa import UNITS, Instruction, Opcode, Unit

__all__ = ["Timeline", "estimate"]

LATER = 1 << 60
START = 90
"""Cycles from the start register to the first instruction in a queue."""
WEIGHTS_AHEAD = 4
"""Of the N cycles in which a tile's weights arrive, those in which the first row is on its way as well."""
SFU_PRODUCTS = ("CONFIG.SFU.input", "CONFIG.SFU.window")
SETTLE = 4
"""Cycles from a CONFIG with products to the next SFU instruction."""


@dataclass
class Timeline:
    """Cycle at which each instruction started and retired, and the end of the program."""

    start: dict[int, int] = field(default_factory=dict)
    end: dict[int, int] = field(default_factory=dict)
    cycles: int = 0


def estimate(program: Sequence[Instruction], config: Config) -> Timeline:
    """Run a program on the model. The program must be one that `check` accepts."""
    return _Machine(program, config).run()


class _Machine:
    def __init__(self, program: Sequence[Instruction], config: Config):
        self.program, self.config = program, config
        self.constants = self._constants_of()
        self.queues: list[deque[int]] = [deque() for _ in range(UNITS)]
        self.tokens: dict[tuple[int, int], deque[int]] = defaultdict(deque)
        self.free = [0] * UNITS
        self.rows_free = self.drained = self.weighed = self.settled = self.tile = 0
        self.active: dict[int, list[tuple[int, int]]] = {Unit.LOAD_W: [], Unit.LOAD_A: []}
        self.bus_busy, self.turn = False, Unit.LOAD_W
        self.position = 0
        self.events: list[tuple[int, int, Callable[[int], None]]] = []
        self.count = 0
        self.timeline = Timeline()

    def run(self) -> Timeline:
        self._at(START, self._dispatch)
        now = 0
        while self.events:
            now, _, action = heapq.heappop(self.events)
            action(now)
        self.timeline.cycles = now
        return self.timeline

    def _at(self, time: int, action: Callable[[int], None]) -> None:
        self.count += 1
        heapq.heappush(self.events, (time, self.count, action))

    def _constants_of(self) -> list[dict[str, int]]:
        """For each instruction, its unit's constants when it runs, as "group.field"."""
        current: list[dict[str, int]] = [{} for _ in range(8)]
        found = []
        for instruction in self.program:
            if instruction.form.opcode == Opcode.CONFIG:
                group = instruction.form.name.split(".")[-1]
                values = {f"{group}.{name}": value for name, value in instruction.values.items()}
                current[instruction.unit] = {**current[instruction.unit], **values}
            found.append(current[instruction.unit])
        return found

    def _dispatch(self, now: int) -> None:
        """One instruction a cycle, in order, as long as the queue it belongs to has room."""
        if self.position == len(self.program) or self.program[self.position].unit == Unit.CONTROL:
            return
        unit = self.program[self.position].unit
        if len(self.queues[unit]) < self.config.queue_depth:
            self.queues[unit].append(self.position)
            self.position += 1
            self._try(unit, now)
            self._at(now + 1, self._dispatch)

    def _try(self, unit: int, now: int) -> None:
        """Start the head of a unit's queue if the unit is free and the tokens are there."""
        queue = self.queues[unit]
        if not queue or self.free[unit] > now:
            return
        index = queue[0]
        instruction = self.program[index]
        givers = [giver for giver in range(UNITS) if instruction.wait >> giver & 1]
        if not all(self.tokens[giver, unit] for giver in givers):
            return
        given = {giver: self.tokens[giver, unit].popleft() for giver in givers}
        if unit == Unit.EXECUTE:
            self.weighed = given.get(Unit.LOAD_W, 0)
        blocked = len(queue) == self.config.queue_depth
        queue.popleft()
        self.timeline.start[index] = now
        self.free[unit] = now + 1
        if instruction.form.opcode != Opcode.CONFIG:
            getattr(self, f"_{instruction.form.name.replace('.', '_').lower()}")(index, instruction, now)
        else:
            self.timeline.end[index] = now + 1
            if instruction.form.name in SFU_PRODUCTS:
                self.settled = now + SETTLE
        if self.free[unit] != LATER:
            self._at(self.free[unit], lambda t: self._try(unit, t))
        if blocked:
            self._at(now, self._dispatch)

    def _finish(self, index: int, now: int) -> None:
        instruction = self.program[index]
        self.timeline.end[index] = now
        for taker in range(UNITS):
            if instruction.signal >> taker & 1:
                self.tokens[instruction.unit, taker].append(now)
                self._try(taker, now)

    def _execute(self, index: int, instruction: Instruction, now: int) -> None:
        tile, work = tile_cycles(instruction.values, self.config), self._cycles(index)
        self.tile = tile
        # The weight stage has been at work since it had its token, or the last tile before this one started.
        rows = max(self.rows_free, now, self.weighed + self.config.array - WEIGHTS_AHEAD)
        self.timeline.start[index] = rows
        self.rows_free = rows + work
        # The next instruction may take its tokens while the last tile flows.
        self.free[Unit.EXECUTE] = max(now + 1, self.rows_free - tile)
        self._retire(index, self.rows_free)

    def _depthwise(self, index: int, instruction: Instruction, now: int) -> None:
        work, idle = self._cycles(index), now > self.free[Unit.DEPTHWISE]
        if now < self.rows_free:
            work += starved(instruction.values, self.constants[index], self.tile, self.config, idle)
        self.free[Unit.DEPTHWISE] = now + work
        self._retire(index, self.free[Unit.DEPTHWISE])

    def _sfu(self, index: int, instruction: Instruction, now: int) -> None:
        start = max(now, self.settled, self.drained if instruction["drain"] else 0)
        self.free[Unit.SFU] = start + self._cycles(index)
        self.drained = self._retire(index, self.free[Unit.SFU])

    def _store(self, index: int, _: Instruction, now: int) -> None:
        self.free[Unit.STORE] = now + self._cycles(index)
        self._retire(index, self.free[Unit.STORE])

    def _load_w(self, index: int, _: Instruction, now: int) -> None:
        self._request(Unit.LOAD_W, index, self._cycles(index), now)

    def _load_a(self, index: int, _: Instruction, now: int) -> None:
        self._request(Unit.LOAD_A, index, self._cycles(index), now)

    def _cycles(self, index: int) -> int:
        """What an instruction takes of its unit."""
        instruction = self.program[index]
        return cycles(Unit(instruction.unit), instruction.values, self.constants[index], self.config)

    def _retire(self, index: int, end: int) -> int:
        """An instruction retires some time after the end of its work; returns when."""
        time = end + latency(Unit(self.program[index].unit), self.config)
        self._at(time, lambda t: self._finish(index, t))
        return time

    def _request(self, unit: int, index: int, beats: int, now: int) -> None:
        """Queue the bursts of a load; the unit goes on to its next instruction when they are asked for."""
        burst = self.config.axi_burst
        sizes = [burst] * (beats // burst) + ([beats % burst] if beats % burst else [])
        self.active[unit] += [(size, index if i == len(sizes) - 1 else -1) for i, size in enumerate(sizes)]
        self.free[unit] = LATER
        if not self.bus_busy:
            self._serve(now)

    def _serve(self, now: int) -> None:
        """Give the read port to the load units in turn."""
        order = sorted(self.active, key=lambda unit: unit != self.turn)
        unit = next((unit for unit in order if self.active[unit]), None)
        self.bus_busy = unit is not None
        if unit is None:
            return
        self.turn = Unit.LOAD_A if unit == Unit.LOAD_W else Unit.LOAD_W
        beats, index = self.active[unit].pop(0)
        if index >= 0:
            self._at(now + beats + READ_LATENCY, lambda t: self._finish(index, t))
            self.free[unit] = now + beats
            self._at(now + beats, lambda t: self._try(unit, t))
        self._at(now + beats, self._serve)
