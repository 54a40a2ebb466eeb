"""Random programs for the testbench of fetch, dispatch and tokens, as words: their headers mean something, no more."""

import random
from collections import Counter

from systolith import isa
from systolith.config import Config
from systolith.isa import Opcode, Unit

__all__ = [
    "END",
    "FENCE",
    "PORTS",
    "is_fence",
    "pairs",
    "part",
    "random_program",
    "units",
    "without_tokens",
    "word",
    "work",
]

PORTS = {Unit.LOAD_W: "load_weights", Unit.LOAD_A: "load_activations", Unit.EXECUTE: "execute", Unit.SFU: "sfu",
         Unit.STORE: "store", Unit.DEPTHWISE: "depthwise"}  # fmt: skip
POSITIONS = {isa.HEADER[i].name: sum(field.bits for field in isa.HEADER[:i]) for i in range(len(isa.HEADER))}


def units(config: Config) -> int:
    """How many units there are."""
    return len(PORTS) if config.dw_taps else len(PORTS) - 1


def pairs(config: Config) -> list[tuple[int, int]]:
    """(opcode, unit) of all instructions."""
    found = {*isa.FORMATS, *((Opcode.CONFIG, unit) for unit, _ in isa.CONFIG_FORMATS)}
    return sorted(pair for pair in found if pair[1] < units(config) or pair[1] == Unit.CONTROL)


def work(config: Config) -> list[tuple[int, int]]:
    """Those that units do."""
    return [pair for pair in pairs(config) if pair[1] != Unit.CONTROL]


def word(opcode: int, unit: int, wait: int = 0, signal: int = 0, reserved: int = 0, payload: int = 0) -> int:
    values = {"opcode": opcode, "unit": unit, "wait": wait, "signal": signal, "reserved": reserved}
    return payload << isa.PAYLOAD_START | sum(value << POSITIONS[name] for name, value in values.items())


def part(word: int, name: str) -> int:
    """A field of the header."""
    bits = next(field.bits for field in isa.HEADER if field.name == name)
    return word >> POSITIONS[name] & (1 << bits) - 1


def is_fence(word: int) -> bool:
    return (part(word, "opcode"), part(word, "unit")) == (Opcode.FENCE, Unit.CONTROL)


def without_tokens(word: int) -> int:
    """The instruction, which waits for nothing and signals nothing."""
    return sum(part(word, name) << POSITIONS[name] for name in ("opcode", "unit")) | (
        word >> isa.PAYLOAD_START << isa.PAYLOAD_START
    )


END, FENCE = word(Opcode.END, Unit.CONTROL), word(Opcode.FENCE, Unit.CONTROL)


def random_program(rng: random.Random, config: Config, length: int) -> list[int]:
    """Instructions whose tokens neither run out nor overflow, whatever the units' speed; END last."""
    most = (1 << config.token_bits) - 1
    program, given, waiting = [], Counter(), Counter()
    choices, count = work(config), units(config)
    while len(program) < length:
        if rng.random() < 0.03:
            program.append(FENCE)
            given.clear()
            given.update(waiting)
            continue
        opcode, unit = rng.choice(choices)
        takes = [giver for giver in range(count) if waiting[giver, unit] and rng.random() < 0.5]
        gives = [taker for taker in range(count) if given[unit, taker] < most and rng.random() < 0.25]
        waiting.subtract((giver, unit) for giver in takes)
        waiting.update((unit, taker) for taker in gives)
        given.update((unit, taker) for taker in gives)
        masks = (sum(1 << number for number in numbers) for numbers in (takes, gives))
        program.append(word(opcode, unit, *masks, payload=rng.getrandbits(108)))
    # What was given and not taken is taken, so that the next program starts without tokens.
    while +waiting:
        for taker in range(count):
            takes = [giver for giver in range(count) if waiting[giver, taker]]
            waiting.subtract((giver, taker) for giver in takes)
            opcode = next(opcode for opcode, unit in choices if unit == taker)
            program.append(word(opcode, taker, sum(1 << giver for giver in takes)))
    return [*program, END]
