"""Random broken programs: valid random ones (sim/stimulus/program.py) in which a few instructions are wrong.

Whatever is wrong, nothing races: a changed instruction has tokens as if it used all of its unit's memories. So what the
instruction simulator finds, the hardware may report, and what was stored before is the same.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from systolith.config import Config
from systolith.isa import (
    CONFIG_FORMATS,
    GROUP,
    HEADER,
    INSTRUCTION_BYTES,
    Field,
    Instruction,
    LoadTarget,
    Opcode,
    Region,
    Unit,
    make,
)
from systolith.sim.stimulus.instructions import Draw, Drawn
from systolith.sim.stimulus.program import KINDS, RandomProgram, assemble, begin, empty
from systolith.sim.stimulus.program_order import Access, ProgramOrder
from systolith.sim.stimulus.sfu import RandomSfu

__all__ = ["BrokenProgram", "broken_program"]

MEMORIES = {
    Unit.LOAD_W: ("weight", "param"),
    Unit.LOAD_A: ("act",),
    Unit.EXECUTE: ("act", "weight", "acc"),
    Unit.SFU: ("act", "param", "acc", "dw_acc"),
    Unit.STORE: ("act",),
    Unit.DEPTHWISE: ("act", "weight", "dw_acc"),
}
FAULTS = ("field",) * 12 + ("group", "header", "wait", "signal", "overflow", "end")
"""What may be wrong: methods of Breaker, and an END that is missing."""
MOST = 5
"""Things wrong with a program."""
Patch = Callable[[int], int]


@dataclass(frozen=True)
class BrokenProgram:
    """A program; `loose` are instructions of which, should they retire, nobody knows what values they leave."""

    random: RandomProgram
    loose: frozenset[int]


@dataclass
class Breaker:
    """A program that grows, with what has been done to it."""

    draw: Draw
    order: ProgramOrder
    sfu: RandomSfu
    loose: set[int] = field(default_factory=set)
    patches: dict[int, Patch] = field(default_factory=dict)

    @property
    def config(self) -> Config:
        return self.draw.config

    def units(self) -> list[Unit]:
        return [unit for unit in MEMORIES if unit != Unit.DEPTHWISE or self.config.dw_taps]

    def valid(self, kind: str) -> Drawn:
        return self.sfu.sfu() if kind == "SFU" else self.draw.instruction(kind)

    def add(self, drawn: Iterable[tuple[Instruction, Access]]) -> None:
        for instruction, access in drawn:
            self.order.add(instruction, access)

    def field(self, kind: str) -> None:
        """An instruction of which a field, or one of its constants, is another; or only a count, which is zero."""
        drawn = list(self.valid(kind))
        if self.draw.chance(0.4):
            last, access = drawn[-1]
            count = "words" if kind == "LOAD.W" else ("rows", "cols")[self.draw.between(0, 1)]
            self.add([*drawn[:-1], (replace(last, values={**last.values, count: 0}), access)])
            return
        if kind == "DEPTHWISE":
            drawn[-1] = self._depthwise(drawn[-1][0]), drawn[-1][1]
        else:
            which = len(drawn) - 1 if self.draw.chance(0.7) else self.draw.between(0, len(drawn) - 1)
            drawn[which] = self._changed(drawn[which][0]), drawn[which][1]
            self._forget(drawn[which][0])
        last = drawn[-1][0]
        if last.unit == Unit.SFU and last.form.group is None:
            last = replace(last, values={**last.values, "drain": 1})
        everything = {name: np.arange(self.order.sizes[name]) for name in MEMORIES[last.unit]}
        self.add([*drawn[:-1], (last, Access(everything, everything))])
        if last.unit == Unit.SFU:
            self.loose.add(len(self.order.listing) - 1)

    def _forget(self, instruction: Instruction) -> None:
        """Constants that were changed are set anew by the next instruction that needs them."""
        self.draw.constants.pop(instruction.form.name, None)

    def _changed(self, instruction: Instruction) -> Instruction:
        """Another value in some field; a region becomes one that has no bytes."""
        names = [f for f in instruction.form.fields if f.name not in ("drain", "target", "entries")]
        if instruction.values.get("target") == LoadTarget.PARAMETERS:
            # Other parameters could have scales that are not positive, which nobody defines.
            return replace(instruction, values={**instruction.values, "region": self.draw.between(5, 7)})
        chosen = names[self.draw.between(0, len(names) - 1)]
        value = self._value(chosen, instruction.values[chosen.name])
        return replace(instruction, values={**instruction.values, chosen.name: value})

    def _value(self, chosen: Field, old: int) -> int:
        draw, config = self.draw, self.config
        if chosen.name == "region":
            return draw.between(5, 7)
        sizes = (config.act_depth, config.weight_depth, config.acc_depth, config.acc_half, config.param_depth,
                 8 * config.param_depth)  # fmt: skip
        near = int(draw.rng.choice(sizes)) + draw.between(-40, 4)
        candidates = (
            0,
            chosen.high,
            old + draw.between(-40, 40),
            old ^ 1 << draw.between(0, chosen.bits - 1),
            near,
            near,
        )
        return min(max(int(draw.rng.choice(candidates)), chosen.low), chosen.high)

    def _depthwise(self, i: Instruction) -> Instruction:
        """With one error: words that it need not read, but may, are hard to tell from those that it reads."""
        config, count = self.config, i["rows"] * i["cols"]
        half = config.dw_half
        crossing = half - count + self.draw.between(1, count - 1) if count > 1 else config.dw_depth
        changes = ({"rows": 0}, {"cols": 0}, {"acc": config.dw_depth + self.draw.between(0, 99)},
                   {"weight": config.weight_depth}, {"acc": crossing})  # fmt: skip
        return replace(i, values={**i.values, **changes[self.draw.between(0, len(changes) - 1)]})

    def group(self) -> None:
        """A CONFIG of a group that its unit does not have."""
        units = sorted({unit for unit, _ in CONFIG_FORMATS} & set(self.units()))
        unit = units[self.draw.between(0, len(units) - 1)]
        known = [group for owner, group in CONFIG_FORMATS if owner == unit]
        self._patched(_constants(unit), "group", self.draw.between(max(known) + 1, 15))

    def header(self) -> None:
        """An instruction that dispatch refuses."""
        bits = 6 - (not self.config.dw_taps)
        instruction = _constants(Unit.STORE)
        choices: list[tuple[str, int]] = [("opcode", 0), ("opcode", self.draw.between(8, 15)), ("unit", 6)]
        choices += [("reserved", 1), ("unit", Unit.LOAD_W), ("opcode", Opcode.END)]
        if bits < 6:
            choices += [("wait", 1 << bits), ("signal", 1 << bits), ("unit", Unit.DEPTHWISE)]
        if self.draw.chance(0.2):
            instruction, choices = make("FENCE"), [("wait", 1), ("signal", 1 << self.draw.between(0, 4))]
        self._patched(instruction, *choices[self.draw.between(0, len(choices) - 1)])

    def _patched(self, instruction: Instruction, name: str, value: int) -> None:
        self.patches[len(self.order.listing)] = lambda word: _with_field(word, name, value)
        self.order.listing.append(instruction)

    def overflow(self) -> None:
        """More tokens than a counter holds, which nobody takes; the last of the program."""
        self.order.fence()
        giver, taker = (self.units()[self.draw.between(0, len(self.units()) - 1)] for _ in range(2))
        instruction = _harmless(giver)
        self.order.listing += [replace(instruction, signal=1 << taker)] * (1 << self.config.token_bits)

    def tokens(self, kind: str) -> None:
        """Of a finished listing: an instruction waits for a token that nobody gives, or a token is not given. That only
        makes others wait longer."""
        listing = self.order.listing
        if kind == "signal":
            givers = [index for index, i in enumerate(listing) if i.signal]
            index = givers[self.draw.between(0, len(givers) - 1)]
            taker = next(unit for unit in self.draw.rng.permutation(6) if listing[index].signal >> unit & 1)
            listing[index] = replace(listing[index], signal=listing[index].signal & ~(1 << int(taker)))
            return
        index = self.draw.between(0, len(listing) - 1)
        unit = listing[index].unit
        if unit != Unit.CONTROL:
            silent = [g for g in self.units() if not any(i.unit == g and i.signal >> unit & 1 for i in listing)]
            giver = silent[self.draw.between(0, len(silent) - 1)]
            listing[index] = replace(listing[index], wait=listing[index].wait | 1 << giver)


def broken_program(rng: np.random.Generator, config: Config, length: int = 24) -> BrokenProgram:
    """A program for a configuration with one to `MOST` things wrong; by chance they may do no harm."""
    draw, order, sfu = begin(rng, config)
    breaker = Breaker(draw, order, sfu)
    faults = [str(fault) for fault in rng.choice(FAULTS, draw.between(1, MOST))]
    places = {int(place): fault for place, fault in zip(rng.integers(0, length, len(faults)), faults, strict=True)}
    kinds = tuple(kind for kind in KINDS if kind != "DEPTHWISE" or config.dw_taps)
    for place in range(length):
        if draw.chance(0.03):
            order.fence()
        match places.get(place):
            case "field":
                breaker.field(str(rng.choice(kinds)))
            case "group":
                breaker.group()
            case "header":
                breaker.header()
            case _:
                breaker.add(breaker.valid(str(rng.choice(kinds))))
    breaker.add(empty(draw, config))
    for fault in faults:
        if fault in ("wait", "signal"):
            breaker.tokens(fault)
    if "overflow" in faults:
        breaker.overflow()
    if "end" not in faults:
        order.listing.append(make("END"))
    random = assemble(rng, config, order.listing)
    code = _patch(random.program.code, breaker.patches.items())
    return BrokenProgram(replace(random, program=replace(random.program, code=code)), frozenset(breaker.loose))


def _patch(code: bytes, patches: Iterable[tuple[int, Patch]]) -> bytes:
    data = bytearray(code)
    for index, patch in patches:
        place = slice(index * INSTRUCTION_BYTES, (index + 1) * INSTRUCTION_BYTES)
        data[place] = patch(int.from_bytes(data[place], "little")).to_bytes(INSTRUCTION_BYTES, "little")
    return bytes(data)


def _with_field(word: int, name: str, value: int) -> int:
    """An instruction's bits with another value in a field of its header, or `group`."""
    position = 0
    for f in (*HEADER, GROUP):
        if f.name == name:
            return word & ~((1 << f.bits) - 1 << position) | value << position
        position += f.bits
    raise ValueError(f"Field must be one of the header, not {name!r}")


def _constants(unit: Unit) -> Instruction:
    """Some CONFIG of a unit, of zeros."""
    form = next(form for (owner, _), form in CONFIG_FORMATS.items() if owner == unit)
    return make(form.name, **{f.name: 0 for f in form.fields})


def _harmless(unit: Unit) -> Instruction:
    """An instruction that does nothing of note at the end of a program."""
    if unit == Unit.LOAD_W:
        return make("LOAD.W", region=Region.WEIGHTS, offset=0, sram=0, words=1, target=LoadTarget.WEIGHTS)
    return _constants(unit)
