"""The instruction simulator: runs a program's bytes on NumPy SRAMs, unit by unit, ordered by queues and tokens only.

Each step advances one of: dispatch, the units, where EXECUTE is two (its weight stage runs a few instructions ahead, as
in the hardware). With no seed they take turns; with a seed they advance by priorities that change at random now and
then, which lets a unit run far ahead of another, so that a missing token shows as a wrong result. An instruction
happens at once. There are no cycles here.

The hardware stops at the first fault in time. Which one that is depends on the memory where several units have one, so
here a unit with a fault stops alone, and the others go on as far as they can without it. All faults that are found so
may be what the hardware reports; what is reported here is the first in the program.
"""

import random
from collections import Counter, deque
from collections.abc import Callable, Iterable

import numpy as np

from systolith.config import Config
from systolith.isa import (
    CONFIG_FORMATS,
    FORMATS,
    GROUP,
    HEADER,
    INSTRUCTION_BYTES,
    UNITS,
    Format,
    Instruction,
    Opcode,
    Region,
    Unit,
    decode,
)
from systolith.sim.host.fault import HardwareFault
from systolith.sim.host.memory_image import Image
from systolith.sim.isa import sfu
from systolith.sim.isa import units as isa_units
from systolith.sim.isa.checks import CHECKS
from systolith.sim.isa.execute import AHEAD, first_beyond, may_pass
from systolith.sim.isa.state import Refused, State

__all__ = ["Simulator", "simulate"]

ALL_UNITS = (1 << UNITS) - 1
PAIRS = {*FORMATS, *((Opcode.CONFIG, unit) for unit, _ in CONFIG_FORMATS)}
UNDEFINED_GROUP = Format("undefined", Opcode.CONFIG, Unit.CONTROL, "what stands for a CONFIG of an undefined group")
WEIGHTS_FIRST = 1 << Unit.LOAD_W
"""The token that EXECUTE's weight stage takes; its row stage takes the others."""
SHUFFLE = 1 / 64
"""How often priorities change in a run with a seed."""
NOWHERE = (-1, 0)
"""Where a stage stops that has not begun with an instruction."""
BEHIND = 4
"""Instructions that a unit may have taken behind the one that it finds a fault in, before all stops."""


def simulate(code: bytes, config: Config, memory: Image, seed: int | None = None) -> "Simulator":
    """Run the program in region CODE of `memory` until END. Raises HardwareFault where the hardware would stop."""
    simulator = Simulator(config, memory, seed, code)
    simulator.run()
    return simulator


class Stage:
    """A unit, or one of EXECUTE's two stages: its queue, the tokens it may take, its constants, what it does; and how
    far it got with an instruction that it `stopped` at: K tile and row (of EXECUTE)."""

    def __init__(self, unit: Unit, depth: int, mask: int, act: Callable | None):
        self.unit, self.depth, self.mask, self.act = unit, depth, mask, act
        self.queue: deque = deque()
        self.stopped: tuple[int, int] | None = None
        self.constants: dict[str, dict[str, int]] = {
            _group(form): {f.name: 0 for f in form.fields}
            for (owner, _), form in CONFIG_FORMATS.items()
            if owner == unit
        }


class Simulator:
    """One accelerator. `retired` is instructions, by unit; `state` holds SRAMs, memory and byte counts; `faults` those
    that may be the first in time."""

    def __init__(self, config: Config, memory: Image, seed: int | None = None, code: bytes = b""):
        self.config, self.memory, self.code = config, memory, code
        self.rng = None if seed is None else random.Random(seed)
        self.state = State.garbage(config, memory, np.random.default_rng(seed or 0))
        self.tokens: Counter[tuple[int, int]] = Counter()
        self.retired: Counter[Unit] = Counter()
        self.index, self.done, self.refused, self.beyond = 0, False, False, False
        self.faults: list[HardwareFault] = []
        self.fetched: Instruction | None = None
        depth = config.queue_depth
        self.stages = {
            Unit.LOAD_W: Stage(Unit.LOAD_W, depth, ALL_UNITS, isa_units.load_weights),
            Unit.LOAD_A: Stage(Unit.LOAD_A, depth, ALL_UNITS, isa_units.load_activations),
            Unit.EXECUTE: Stage(Unit.EXECUTE, depth, WEIGHTS_FIRST, None),
            # One waits in front of its queue.
            Unit.SFU: Stage(Unit.SFU, depth + 1, ALL_UNITS, sfu.sfu),
            Unit.STORE: Stage(Unit.STORE, depth, ALL_UNITS, isa_units.store),
        }
        if config.dw_taps:
            self.stages[Unit.DEPTHWISE] = Stage(Unit.DEPTHWISE, depth, ALL_UNITS, isa_units.depthwise)
        self.rows = Stage(Unit.EXECUTE, AHEAD, ALL_UNITS & ~WEIGHTS_FIRST, isa_units.execute)

    def run(self) -> None:
        """Until END. Raises the first fault of the program, if there are some, when nothing more can be done."""
        stages = (*self.stages.values(), self.rows)
        moves: list[Callable[[], bool]] = [self._dispatch, *(lambda s=s: self._advance(s) for s in stages)]
        moves.append(self._load_weights)
        if self.rng:
            self.rng.shuffle(moves)
        while not self.done:
            if self.rng:
                if self.rng.random() < SHUFFLE:
                    self.rng.shuffle(moves)
                progress = any(move() for move in moves)
            else:
                progress = sum([move() for move in moves])
            if not progress:
                raise min(self.faults, key=lambda fault: fault.index or 0, default=self._stuck())

    def _dispatch(self) -> bool:
        """Move the next instruction to its unit's queue, if there is room."""
        if self.done or self.refused:
            return False
        try:
            self.fetched = instruction = self.fetched or self._fetch()
        except Refused as refused:
            self.refused = True
            self._report(refused.code, Unit.CONTROL, self.index)
            return True
        if instruction.unit == Unit.CONTROL:
            if self.faults or any(stage.queue for stage in (*self.stages.values(), self.rows)):
                return False
            self.done = instruction.form.opcode == Opcode.END
        else:
            stage = self.stages[instruction.unit]
            if len(stage.queue) >= stage.depth + BEHIND * bool(stage.stopped):
                return False
            stage.queue.append((self.index, instruction, ()))
        self.fetched = None
        self.index += 1
        return True

    def _fetch(self) -> Instruction:
        start = self.index * INSTRUCTION_BYTES
        code = self.memory.region(Region.CODE)
        if start + INSTRUCTION_BYTES > len(code):
            raise Refused("REGION_RANGE")
        self.state.bytes_read += INSTRUCTION_BYTES
        word = int.from_bytes(bytes(code[start : start + INSTRUCTION_BYTES]), "little")
        instruction = _decode(word, sum(1 << unit for unit in self.stages))
        if instruction is None:
            raise Refused("OPCODE")
        return instruction

    def _advance(self, stage: Stage) -> bool:
        """Run the instruction at the head of a stage's queue, if its tokens are there."""
        if stage.stopped or not stage.queue:
            return False
        try:
            return self._run_next(stage)
        except Refused as refused:
            stage.stopped = refused.place
            self._report(refused.code, stage.unit, stage.queue[0][0])
            return True

    def _run_next(self, stage: Stage) -> bool:
        """Raises Refused if the hardware would stop."""
        index, instruction, extra = stage.queue[0]
        if stage is not self.rows:
            self._check(stage, instruction)
        if stage is self.stages[Unit.EXECUTE] and not self._may_pass(instruction):
            return False
        givers = self._givers(stage, instruction)
        if not all(self.tokens[giver, stage.unit] for giver in givers):
            return False
        self.tokens.subtract((giver, stage.unit) for giver in givers)
        if instruction.form.opcode == Opcode.CONFIG:
            self._configure(stage, instruction)
        elif stage.act is None:
            extra = (isa_units.read_weights(self.state, instruction, stage.constants),)
        else:
            stage.act(self.state, instruction, stage.constants, *extra)
        stage.queue.popleft()
        if stage.act is None:
            self.rows.queue.append((index, instruction, extra))
        else:
            self._retire(stage, index, instruction)
        return True

    def _may_pass(self, instruction: Instruction) -> bool:
        rows = self.rows
        room = len(rows.queue) < rows.depth + BEHIND * bool(rows.stopped)
        return room and may_pass(instruction, rows.queue, rows.stopped)

    def _load_weights(self) -> bool:
        """Notice weights that are not there."""
        index = None if self.beyond else first_beyond(self.rows.queue, self.rows.stopped, self.config.array)
        if index is None:
            return False
        self.beyond = True
        self._report("SRAM_RANGE", Unit.EXECUTE, index)
        return True

    def _check(self, stage: Stage, instruction: Instruction) -> None:
        """What needs no token and no access."""
        if instruction.form is UNDEFINED_GROUP:
            raise Refused("OPCODE")
        if instruction.form.opcode != Opcode.CONFIG:
            CHECKS[stage.unit](self.config, instruction, stage.constants)

    def _configure(self, stage: Stage, instruction: Instruction) -> None:
        stage.constants[_group(instruction.form)].update(instruction.values)
        if instruction.form.name == "CONFIG.SFU.table":
            sfu.fill_table(self.state, instruction)

    def _retire(self, stage: Stage, index: int, instruction: Instruction) -> None:
        self.retired[stage.unit] += 1
        for taker in _units(instruction.signal):
            if self.tokens[stage.unit, taker] == (1 << self.config.token_bits) - 1:
                stage.stopped = NOWHERE
                self._report("TOKEN_OVERFLOW", stage.unit, index)
            else:
                self.tokens[stage.unit, taker] += 1

    def _givers(self, stage: Stage, instruction: Instruction) -> Iterable[int]:
        return _units(instruction.wait & stage.mask)

    def _stuck(self) -> HardwareFault:
        """The fault of a program that can't go on: the first unit that waits for tokens (EXECUTE's row stage before its
        weight stage), and which."""
        stages = list(self.stages.values())
        stages.insert(stages.index(self.stages[Unit.EXECUTE]), self.rows)
        for stage in stages:
            if stage.queue:
                index, instruction, _ = stage.queue[0]
                missing = [g for g in self._givers(stage, instruction) if not self.tokens[g, stage.unit]]
                if missing:
                    return self._fault("WATCHDOG", stage.unit, index, sum(1 << giver for giver in missing))
        return self._fault("WATCHDOG", Unit.CONTROL, self.index)

    def _report(self, code: str, unit: Unit, index: int) -> None:
        self.faults.append(self._fault(code, unit, index))

    def _fault(self, code: str, unit: Unit, index: int, detail: int = 0) -> HardwareFault:
        return HardwareFault(code, unit, index, detail, self.code or bytes(self.memory.region(Region.CODE)))


def _group(form: Format) -> str:
    """The last part of the name of a CONFIG format."""
    return form.name.rsplit(".", 1)[-1]


def _decode(word: int, units: int) -> Instruction | None:
    """As the hardware with that mask of units does it: dispatch refuses a header that is not defined (None here), a
    unit an undefined CONFIG group of its own, and nobody looks at unused bits of the payload."""
    header, position = {}, 0
    for field in HEADER:
        header[field.name] = word >> position & (1 << field.bits) - 1
        position += field.bits
    opcode, unit, masks = header["opcode"], header["unit"], header["wait"] | header["signal"]
    named = units if unit != Unit.CONTROL else 0
    exists = unit == Unit.CONTROL or units >> unit & 1
    if (opcode, unit) not in PAIRS or not exists or header["reserved"] or masks & ~named:
        return None
    form = FORMATS.get((opcode, unit)) or CONFIG_FORMATS.get((unit, word >> position & (1 << GROUP.bits) - 1))
    if form is None:
        return Instruction(UNDEFINED_GROUP, Unit(unit))
    used = form.start + sum(field.bits for field in form.fields)
    return decode((word & (1 << used) - 1).to_bytes(INSTRUCTION_BYTES, "little"))


def _units(mask: int) -> list[int]:
    return [unit for unit in range(UNITS) if mask >> unit & 1]
