"""From steps to instructions: CONFIG only where a unit's constants change, and the tokens that `sync` found."""

from collections.abc import Sequence

from systolith.compiler.access import UNIT_OF
from systolith.compiler.step import Step
from systolith.compiler.sync import Tokens
from systolith.isa import Instruction, make

__all__ = ["generate"]


def generate(steps: Sequence[Step], tokens: Tokens) -> tuple[list[Instruction], list[int]]:
    """The program, END included, and for each instruction the layer it belongs to (END: the last one)."""
    program: list[Instruction] = []
    layers: list[int] = []
    constants: dict[str, dict[str, int]] = {}
    for index, step in enumerate(steps):
        for name, values in step.constants.items():
            if constants.get(name) != values:
                constants[name] = dict(values)
                program.append(make(name, **values))
                layers.append(step.layer)
        program.append(make(step.name, _mask(tokens.wait[index]), _mask(tokens.signal[index]), **step.fields))
        layers.append(step.layer)
        assert program[-1].unit == UNIT_OF[step.name]
    program.append(make("END"))
    layers.append(layers[-1] if layers else 0)
    return program, layers


def _mask(units) -> int:
    return sum(1 << unit for unit in units)
