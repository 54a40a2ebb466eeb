"""Proof that a program is safe to run, from its bytes alone. It shares no code with the rest of the compiler.

`check` decodes the program, finds every cell that each instruction touches, matches tokens, and refuses a program with

- an access outside its SRAM or region, a tile that leaves its accumulator half, a count of zero, a unit that is not
  there, a store to its own code, or no END at its end;
- a race: two accesses of different units to one cell, one of them a write, in an order that tokens do not fix;
- a hazard inside the SFU: an instruction that reads a word which may still be in the SFU's pipeline, or that writes a
  word which it reads later;
- a deadlock, with queues as deep as the hardware's; a token that nobody takes; a counter that could overflow.

Tokens of a pair of units are matched first to first, as counters do. "Known" is a vector clock: for each unit, the last
instruction that is surely retired. EXECUTE has two: its weight stage knows the tokens of LOAD_W only.
"""

from collections import defaultdict, deque
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from systolith.compiler.check.accesses import touched_cells
from systolith.compiler.check.cells import WEIGHT_STAGE, Cells
from systolith.compiler.check.sfu import Drains
from systolith.config import Config
from systolith.errors import SystolithError
from systolith.isa import UNITS, Instruction, Opcode, Region, Unit, decode_program

__all__ = ["check"]


def check(code: bytes, config: Config, regions: Mapping[Region, int]) -> None:
    """Raises SystolithError, naming the instructions, unless the program is safe with regions of those sizes."""
    program = list(decode_program(code))
    if not program or program[-1].form.opcode != Opcode.END or sum(i.form.opcode == Opcode.END for i in program) > 1:
        raise SystolithError("Program must end with its only END")
    takes = _match_tokens(program)
    _check_deadlock(program, config)
    known, retired = _clocks(program, takes)
    _check_overflow(program, takes, retired, (1 << config.token_bits) - 1)
    drains, races = Drains(config), _Races(program, known)
    # What all instructions touch would take gigabytes together.
    for index, found in enumerate(touched_cells(program, config, regions)):
        drains.check(index, program[index], found)
        races.check(index, found)


# Tokens


def _match_tokens(program: list[Instruction]) -> list[dict[int, int]]:
    """For each instruction, unit -> index of the instruction whose token it takes."""
    given: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, instruction in enumerate(program):
        for taker in _units(instruction.signal):
            given[instruction.unit, taker].append(index)
    taken: dict[tuple[int, int], int] = defaultdict(int)
    takes = []
    for index, instruction in enumerate(program):
        takes.append({})
        if instruction.unit == Unit.CONTROL and instruction.wait | instruction.signal:
            raise SystolithError(f"Instruction {index} ({instruction.form.name}) must not wait or signal")
        for giver in _units(instruction.wait):
            pair = giver, int(instruction.unit)
            if giver == instruction.unit or taken[pair] >= len(given[pair]):
                raise SystolithError(
                    f"Instruction {index} ({instruction.form.name}) must wait for a token that is given, "
                    f"not for one of {_name(giver)}"
                )
            takes[-1][giver] = given[pair][taken[pair]]
            taken[pair] += 1
    for pair, givers in given.items():
        if taken[pair] != len(givers):
            raise SystolithError(
                f"Instruction {givers[taken[pair]]} must signal a unit that takes the token, not {_name(pair[1])}"
            )
    return takes


def _check_deadlock(program: list[Instruction], config: Config) -> None:
    """Run with counters and bounded queues, each instruction in no time: if nobody can go on, it is a deadlock."""
    queues = [deque() for _ in range(UNITS)]
    tokens: dict[tuple[int, int], int] = defaultdict(int)
    position, moved = 0, True
    while position < len(program) - 1 or any(queues):
        if not moved:
            waiting = [queue[0] for queue in queues if queue]
            raise SystolithError(f"Instructions {waiting} must not wait for each other: deadlock at {position}")
        moved = False
        while position < len(program) - 1:
            unit = program[position].unit
            if unit == Unit.CONTROL:
                if any(queues):
                    break
            elif len(queues[unit]) == config.queue_depth:
                break
            else:
                queues[unit].append(position)
            position, moved = position + 1, True
        for unit, queue in enumerate(queues):
            while queue and all(tokens[giver, unit] for giver in _units(program[queue[0]].wait)):
                instruction = program[queue.popleft()]
                for giver in _units(instruction.wait):
                    tokens[giver, unit] -= 1
                for taker in _units(instruction.signal):
                    tokens[unit, taker] += 1
                moved = True


def _clocks(program: list[Instruction], takes: list[dict[int, int]]):
    """What each instruction's starters know when it starts, and what is known when it has retired.

    A token may come from later in the program, so clocks are found in an order in which tokens flow.
    """
    known: list[dict[int, list[int]]] = [{} for _ in program]
    retired: list[list[int]] = [[] for _ in program]
    started = [[-1] * UNITS for _ in range(UNITS + 1)]
    fenced = [-1] * UNITS
    queues = [deque(i for i, instruction in enumerate(program) if instruction.unit == unit) for unit in range(UNITS)]
    fences = [i for i, instruction in enumerate(program) if instruction.form.opcode == Opcode.FENCE]
    begin = 0
    for stop in (*fences, len(program)):
        moved = True
        while moved:
            moved = False
            for unit, queue in enumerate(queues):
                while queue and queue[0] < stop and all(retired[giver] for giver in takes[queue[0]].values()):
                    _start(queue.popleft(), unit, takes, started, fenced, known, retired)
                    moved = True
        for i in range(begin, stop):
            if program[i].unit < UNITS:
                fenced[program[i].unit] = i
        begin = stop
    return known, retired


def _start(index: int, unit: int, takes, started, fenced, known, retired) -> None:
    starters = (WEIGHT_STAGE, unit) if unit == Unit.EXECUTE else (unit,)
    for starter in starters:
        clock = list(map(max, started[starter], fenced))
        for giver_unit, giver in takes[index].items():
            if starter != WEIGHT_STAGE or giver_unit == Unit.LOAD_W:
                clock = list(map(max, clock, retired[giver]))
        started[starter] = known[index][starter] = clock
    retired[index] = [max(clock, index) if i == unit else clock for i, clock in enumerate(started[unit])]


def _check_overflow(program: list[Instruction], takes, retired, capacity: int) -> None:
    """Token k may be given only when the taker of token k - capacity has surely retired."""
    pairs: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for taker, givers in enumerate(takes):
        for unit, giver in givers.items():
            pairs[unit, int(program[taker].unit)].append((giver, taker))
    for (unit, taker_unit), tokens in pairs.items():
        for (giver, _), (_, taker) in zip(tokens[capacity:], tokens, strict=False):
            if retired[giver][taker_unit] < taker:
                raise SystolithError(
                    f"Instruction {giver} must not give token {capacity + 1} from {_name(unit)} to "
                    f"{_name(taker_unit)} before instruction {taker} has taken one: counter overflow"
                )


# Races


class _Races:
    """Every earlier conflicting access of another unit is retired before an instruction starts, in program order."""

    def __init__(self, program: list[Instruction], known):
        self.program, self.known = program, known
        self.last: dict[tuple[str | Region, int, bool], NDArray[np.int32]] = {}
        """The last instruction of a unit that read or wrote each cell of a memory, as far as cells are known."""

    def check(self, index: int, found: list[Cells]) -> None:
        """The next instruction's accesses."""
        unit = int(self.program[index].unit)
        for access in found:
            size = int(access.cells.max()) + 1
            for memory, other, write in list(self.last):
                if memory == access.memory and other != unit and (write or access.write):
                    latest = int(self._cells((memory, other, write), size)[access.cells].max())
                    if latest > self.known[index][access.starter][other]:
                        raise SystolithError(
                            f"Instruction {index} ({self.program[index].form.name}) must wait for instruction {latest} "
                            f"({self.program[latest].form.name}): race in {_memory_name(memory)}"
                        )
        for access in found:
            self._cells((access.memory, unit, access.write), int(access.cells.max()) + 1)[access.cells] = index

    def _cells(self, key: tuple[str | Region, int, bool], size: int) -> NDArray[np.int32]:
        """At least `size` cells."""
        cells = self.last.get(key, np.zeros(0, np.int32))
        if len(cells) < size:
            more = max(size, 2 * len(cells)) - len(cells)
            cells = self.last[key] = np.concatenate([cells, np.full(more, -1, np.int32)])
        return cells


def _units(mask: int) -> list[int]:
    return [unit for unit in range(UNITS) if mask >> unit & 1]


def _name(unit: int) -> str:
    return Unit(unit).name if unit in set(Unit) else f"unit {unit}"


def _memory_name(memory) -> str:
    return f"region {memory.name}" if isinstance(memory, Region) else memory
