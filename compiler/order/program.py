"""Steps to instructions: CONFIG only where a unit's constants change, and the tokens of `tokens.py`."""

from collections.abc import Iterator, Mapping, Sequence

from systolith.compiler.order.access import UNIT_OF
from systolith.compiler.order.tokens import Tokens
from systolith.compiler.schedule.step import Step
from systolith.isa import Instruction, make

__all__ = ["generate"]

TABLE, ENTRIES = "CONFIG.SFU.table", 8


def generate(steps: Sequence[Step], tokens: Tokens) -> tuple[list[Instruction], list[int]]:
    """The program, END included, and for each instruction the layer it belongs to (END: the last one)."""
    program: list[Instruction] = []
    layers: list[int] = []
    constants: dict[str | tuple[str, int], dict[str, int]] = {}
    for index, step in enumerate(steps):
        for key, name, values in _constants(step):
            if constants.get(key) != values:
                constants[key] = dict(values)
                program.append(make(name, **values))
                layers.append(step.layer)
        program.append(make(step.name, _mask(tokens.wait[index]), _mask(tokens.signal[index]), **step.fields))
        layers.append(step.layer)
        assert program[-1].unit == UNIT_OF[step.name]
    program.append(make("END"))
    layers.append(max(layers, default=0))
    return program, layers


def _constants(step: Step) -> Iterator[tuple[str | tuple[str, int], str, Mapping[str, int]]]:
    """What a step needs to be set: what is set (a group, or a part of the table), format, and values."""
    for name, values in step.constants.items():
        yield name, name, values
    table = step.table or b""
    for index in range(0, len(table), ENTRIES):
        entries = int.from_bytes(table[index : index + ENTRIES], "little")
        yield (TABLE, index), TABLE, {"index": index // ENTRIES, "entries": entries}


def _mask(units) -> int:
    return sum(1 << unit for unit in units)
