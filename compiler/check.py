"""Proof that a program is safe to run, from its bytes alone: it shares no code with what made it.

`check` decodes the program, finds every cell each instruction touches, matches tokens, and refuses a program with

- an access outside its SRAM or region, a tile that leaves its accumulator half, a count of zero, or no END at its end;
- a race: two accesses of different units to one cell, one of them a write, in an order that tokens do not fix;
- a deadlock, with queues as deep as the hardware's; a token nobody takes; a counter that could overflow.

Tokens of a pair of units are matched first to first, as counters do. "Known" is a vector clock: the last instruction
of each unit that is surely retired. EXECUTE has two: its weight stage knows LOAD_W's tokens only.
"""

from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from math import gcd

import numpy as np
from numpy.typing import NDArray

from systolith.config import Config
from systolith.errors import SystolithError
from systolith.isa import Instruction, Opcode, Region, Unit, decode_program

__all__ = ["check"]

QUEUES = 5
ADDRESSES = 1 << 18
OFFSETS = 1 << 32
WEIGHT_STAGE = QUEUES
"""Index of EXECUTE's weight stage among the starters; the others are units."""


class _Cells:
    """Cells an instruction touches in one memory; `starter` is who must know that it may."""

    def __init__(self, memory, write: bool, cells: NDArray[np.int64], starter: int):
        self.memory, self.write, self.cells, self.starter = memory, write, cells, starter


def check(code: bytes, config: Config, regions: Mapping[Region, int]) -> None:
    """Raises SystolithError, naming the instructions, unless the program is safe with regions of those sizes."""
    program = list(decode_program(code))
    if not program or program[-1].form.opcode != Opcode.END or sum(i.form.opcode == Opcode.END for i in program) > 1:
        raise SystolithError("Program must end with its only END")
    takes = _match_tokens(program)
    _check_deadlock(program, config)
    touched = list(_touched(program, config, regions))
    known, retired = _clocks(program, takes)
    _check_overflow(program, takes, retired, (1 << config.token_bits) - 1)
    _check_races(program, touched, known)


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
    queues = [deque() for _ in range(QUEUES)]
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
    started = [[-1] * QUEUES for _ in range(QUEUES + 1)]
    fenced = [-1] * QUEUES
    queues = [deque(i for i, instruction in enumerate(program) if instruction.unit == unit) for unit in range(QUEUES)]
    fences = [i for i, instruction in enumerate(program) if instruction.form.opcode == Opcode.FENCE]
    for stop in (*fences, len(program)):
        moved = True
        while moved:
            moved = False
            for unit, queue in enumerate(queues):
                while queue and queue[0] < stop and all(retired[giver] for giver in takes[queue[0]].values()):
                    _start(queue.popleft(), unit, takes, started, fenced, known, retired)
                    moved = True
        fenced = (
            [max([i for i in range(stop) if program[i].unit == unit], default=-1) for unit in range(QUEUES)]
            if stop < len(program)
            else fenced
        )
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


def _check_races(program: list[Instruction], touched, known) -> None:
    """Every earlier conflicting access of another unit is retired before an instruction starts, in program order."""
    sizes: dict = defaultdict(int)
    for found in touched:
        for access in found:
            sizes[access.memory] = max(sizes[access.memory], int(access.cells.max()) + 1)
    last: dict = {}
    for index, found in enumerate(touched):
        unit = int(program[index].unit)
        for access in found:
            for (memory, other, write), cells in last.items():
                if memory == access.memory and other != unit and (write or access.write):
                    latest = int(cells[access.cells].max())
                    if latest > known[index][access.starter][other]:
                        raise SystolithError(
                            f"Instruction {index} ({program[index].form.name}) must wait for instruction {latest} "
                            f"({program[latest].form.name}): race in {_memory_name(memory)}"
                        )
        for access in found:
            key = access.memory, unit, access.write
            if key not in last:
                last[key] = np.full(sizes[access.memory], -1, np.int32)
            last[key][access.cells] = index


# Accesses


def _touched(program: list[Instruction], config: Config, regions: Mapping[Region, int]) -> Iterator[list[_Cells]]:
    constants: list[dict[str, int]] = [defaultdict(int) for _ in range(QUEUES)]
    kinds = {"LOAD.W": _load_weights, "LOAD.A": _load_activations, "EXECUTE": _execute, "SFU": _sfu, "STORE": _store}
    for index, instruction in enumerate(program):
        name = instruction.form.name
        if name in kinds:
            where = f"Instruction {index} ({name})"
            yield kinds[name](instruction, constants[instruction.unit], config, regions, where)
        else:
            if instruction.form.opcode == Opcode.CONFIG:
                constants[instruction.unit].update(instruction.values)
            yield []


def _load_weights(i: Instruction, _, config: Config, regions, where: str) -> list[_Cells]:
    _positive(where, words=i["words"])
    _in_region(where, i["region"], np.array([i["offset"]]), i["words"] * config.array, regions)
    cells = i["sram"] + np.arange(i["words"])
    if i["target"]:
        cells = np.unique(_in_sram(where, cells, 8 * config.param_depth, "parameter") // 8)
        return [_Cells("parameter SRAM", True, cells, Unit.LOAD_W)]
    return [_Cells("weight SRAM", True, _in_sram(where, cells, config.weight_depth, "weight"), Unit.LOAD_W)]


def _load_activations(i: Instruction, c, config: Config, regions, where: str) -> list[_Cells]:
    _positive(where, rows=i["rows"], cols=i["cols"], length=c["length"], step=c["step"])
    if c["lane"] + c["length"] > config.array:
        raise SystolithError(f"{where} must write lanes below {config.array}, not {c['lane']} + {c['length']}")
    lines = np.arange(i["rows"])
    found = [_Cells("activation SRAM", True, _rectangle(where, i["sram"], i, c, config), Unit.LOAD_A)]
    y = i["y0"] + lines * c["row_step"]
    first = min(max(i["x0"], 0), c["row_bytes"])
    last = min(max(i["x0"] + (i["cols"] - 1) * c["step"] + c["length"], 0), c["row_bytes"])
    starts = (i["offset"] + lines[(y >= 0) & (y < c["height"])] * c["row_pitch"] + first) % OFFSETS
    if len(starts) and last > first:
        _in_region(where, i["region"], starts, last - first, regions)
        found.append(_Cells(Region(i["region"]), False, _bytes(starts, last - first, config), Unit.LOAD_A))
    return found


def _execute(i: Instruction, c, config: Config, _, where: str) -> list[_Cells]:
    _positive(where, rows=i["rows"], cols=i["cols"], kernel_y=c["kernel_y"], kernel_x=c["kernel_x"], blocks=c["blocks"])
    _in_half(where, i, config)
    words = c["kernel_y"] * c["kernel_x"] * c["blocks"] * config.array
    weights = _in_sram(where, i["weight"] + np.arange(words), config.weight_depth, "weight")
    y = _positions(i["y0"], i["rows"], c["stride_y"], c["kernel_y"], c["dilation_y"], c["height"])
    x = _positions(i["x0"], i["cols"], c["stride_x"], c["kernel_x"], c["dilation_x"], c["width"])
    blocks = np.arange(c["blocks"])[:, None, None] * c["block_stride"]
    found = [
        _Cells("weight SRAM", False, weights, WEIGHT_STAGE),
        _Cells("accumulators", True, np.array([i["acc"] // config.acc_half]), Unit.EXECUTE),
    ]
    if len(y) and len(x):
        cells = ((i["act"] + blocks + y[:, None] * c["row_stride"] + x) % ADDRESSES).ravel()
        found.append(
            _Cells("activation SRAM", False, _in_sram(where, cells, config.act_depth, "activation"), Unit.EXECUTE)
        )
    return found


def _sfu(i: Instruction, c, config: Config, _, where: str) -> list[_Cells]:
    _positive(where, rows=i["rows"], cols=i["cols"])
    _in_half(where, i, config)
    if i["mode"]:
        raise SystolithError(f"{where} must have mode 0, not {i['mode']}")
    return [
        _Cells("accumulators", False, np.array([i["acc"] // config.acc_half]), Unit.SFU),
        _Cells(
            "parameter SRAM", False, _in_sram(where, np.array([i["param"]]), config.param_depth, "parameter"), Unit.SFU
        ),
        _Cells("activation SRAM", True, _rectangle(where, i["dst"], i, c, config), Unit.SFU),
    ]


def _store(i: Instruction, c, config: Config, regions, where: str) -> list[_Cells]:
    _positive(where, rows=i["rows"], cols=i["cols"])
    starts = (i["offset"] + np.arange(i["rows"]) * c["row_pitch"]) % OFFSETS
    count = i["cols"] * config.array
    _in_region(where, i["region"], starts, count, regions)
    return [
        _Cells("activation SRAM", False, _rectangle(where, i["sram"], i, c, config), Unit.STORE),
        _Cells(Region(i["region"]), True, _bytes(starts, count, config), Unit.STORE),
    ]


def _positions(first: int, count: int, stride: int, taps: int, dilation: int, size: int) -> NDArray[np.int64]:
    """Positions inside the tensor that outputs and taps read along one axis."""
    found = (first + np.arange(count)[:, None] * stride + np.arange(taps) * dilation).ravel()
    found = found[(found >= 0) & (found < size)]
    return np.flatnonzero(np.bincount(found, minlength=1)) if len(found) else found


def _rectangle(where: str, first: int, i: Instruction, c, config: Config) -> NDArray[np.int64]:
    cells = (first + np.arange(i["rows"])[:, None] * c["row_stride"] + np.arange(i["cols"])).ravel()
    return _in_sram(where, cells, config.act_depth, "activation")


def _bytes(starts: NDArray[np.int64], count: int, config: Config) -> NDArray[np.int64]:
    """Granules of a region that `count` bytes from each start touch; whole words have granules of their own."""
    granule = gcd(config.array, 64)
    first, last = starts // granule, (starts + count - 1) // granule
    if (last - first == last[0] - first[0]).all():
        return (first[:, None] + np.arange(last[0] - first[0] + 1)).ravel()
    return np.concatenate([np.arange(a, b + 1) for a, b in zip(first, last, strict=True)])


# Refusals


def _positive(where: str, **counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise SystolithError(f"{where} must have {name} of at least 1, not {count}")


def _in_half(where: str, i: Instruction, config: Config) -> None:
    if i["acc"] >= config.acc_depth or i["acc"] % config.acc_half + i["rows"] * i["cols"] > config.acc_half:
        raise SystolithError(
            f"{where} must stay inside its accumulator half of {config.acc_half} rows, "
            f"not use {i['rows']} x {i['cols']} from row {i['acc']}"
        )


def _in_sram(where: str, cells: NDArray[np.int64], depth: int, name: str) -> NDArray[np.int64]:
    if int(cells.max()) >= depth:
        raise SystolithError(f"{where} must stay below word {depth} of {name} SRAM, not reach {int(cells.max())}")
    return cells


def _in_region(where: str, region: int, starts: NDArray[np.int64], count: int, regions: Mapping[Region, int]) -> None:
    limit, end = regions.get(region, 0), int(starts.max()) + count
    if end > limit:
        raise SystolithError(
            f"{where} must stay inside the {limit} bytes of region {_region_name(region)}, not reach byte {end}"
        )


def _units(mask: int) -> list[int]:
    return [unit for unit in range(6) if mask >> unit & 1]


def _name(unit: int) -> str:
    return Unit(unit).name if unit in set(Unit) else f"unit {unit}"


def _region_name(region: int) -> str:
    return Region(region).name if region in set(Region) else str(region)


def _memory_name(memory) -> str:
    return f"region {memory.name}" if isinstance(memory, Region) else memory
