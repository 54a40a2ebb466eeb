"""Numbers of opcodes, units, regions and errors; and what formats are made of: fields behind a common header."""

import enum
from dataclasses import dataclass

__all__ = ["ERROR_ORDER", "GROUP", "HEADER", "INSTRUCTION_BYTES", "PAYLOAD_START", "QUEUED", "UNITS", "Error", "Field",
           "Format", "LoadTarget", "Opcode", "Reduction", "Region", "SecondOperand", "SfuSource", "Unit"]  # fmt: skip

INSTRUCTION_BYTES = 16


class Opcode(enum.IntEnum):
    """What to do. Zero is undefined on purpose: empty memory is not a program."""

    CONFIG = 1
    LOAD = 2
    EXECUTE = 3
    SFU = 4
    STORE = 5
    FENCE = 6
    END = 7


class Unit(enum.IntEnum):
    """Who does it. All but CONTROL, which is fetch and dispatch, have queues; DEPTHWISE is optional (`dw_taps`)."""

    LOAD_W = 0
    LOAD_A = 1
    EXECUTE = 2
    SFU = 3
    STORE = 4
    DEPTHWISE = 5
    CONTROL = 7


QUEUED = tuple(unit for unit in Unit if unit != Unit.CONTROL)
"""Units with a queue of instructions; bit `unit` of a token mask is that unit."""
UNITS = 1 + max(QUEUED)
"""Bits of a token mask."""


class Region(enum.IntEnum):
    """Numbers of the memory regions by convention; hardware treats all eight alike, but it fetches from CODE."""

    CODE = 0
    WEIGHTS = 1
    INPUT = 2
    OUTPUT = 3
    SCRATCH = 4


class _Described(enum.IntEnum):
    """A number with what it stands for."""

    doc: str

    def __new__(cls, value: int, doc: str):
        item = int.__new__(cls, value)
        item._value_ = value
        item.doc = doc
        return item


class LoadTarget(_Described):
    """Where LOAD.W writes."""

    WEIGHTS = 0, "weight SRAM"
    PARAMETERS = 1, "parameter SRAM"


class SfuSource(_Described):
    """What windows of the SFU slide over."""

    ACCUMULATORS = 0, "accumulators"
    ACTIVATIONS = 1, "activation SRAM"
    DEPTHWISE = 2, "depthwise accumulators"


class Reduction(_Described):
    """What makes one value of a window."""

    MAXIMUM = 0, "maximum"
    SUM = 1, "sum"


class SecondOperand(_Described):
    """What the SFU does with a second tensor."""

    NONE = 0, "none"
    ADD = 1, "add"
    MULTIPLY = 2, "multiply (only of a maximum of activations)"


class Error(_Described):
    """Why the accelerator stopped."""

    NONE = 0, "no error"
    OPCODE = 1, "undefined opcode, or an opcode the named unit does not have, or an undefined CONFIG group"
    OPERAND = 2, "a count of zero, or a tile that leaves its accumulator half"
    SRAM_RANGE = 3, "SRAM address out of range"
    REGION_RANGE = 4, "memory access outside its region"
    AXI_READ = 5, "the memory answered a read with an error"
    AXI_WRITE = 6, "the memory answered a write with an error"
    TOKEN_OVERFLOW = 7, "a token counter would overflow"
    WATCHDOG = 8, "no progress; detail is the mask of units whose token is missing"


ERROR_ORDER = (
    "Each unit goes through its instructions in order, and reports the first error it meets. Within an instruction:",
    "",
    "- First what is wrong with the instruction as it stands, before it waits for tokens: OPCODE, then OPERAND "
    "for counts of zero and lanes past N, then SRAM_RANGE for SFU's `param`, `dst`, `operand` and accumulator "
    "`source`, and for DEPTHWISE's `acc`.",
    "- Then each access in turn, once the tokens are there. LOAD and STORE go row by row: SRAM_RANGE, then "
    "REGION_RANGE. EXECUTE goes K tile by K tile, in each row by row: SRAM_RANGE of activations and of `acc`, "
    "then OPERAND for leaving the half. The SFU goes output by output, in each tap by tap: OPERAND for leaving "
    "the half, then SRAM_RANGE of what is read or written. DEPTHWISE goes through the words of a pass in the "
    "order of reading; which are a pass depends on `dw_taps`.",
    "- EXECUTE's weights are read ahead of its rows: those of the first tile need the LOAD_W token alone, those "
    "of each other tile begin with the tile before; a weight word that is not there counts as two rows later than "
    "the row of its number in that tile.",
    "- TOKEN_OVERFLOW comes last: when the instruction retires.",
    "",
    "Where several units have an error, the first in time is reported, and it depends on the memory which that "
    "is. What can be reported: the error of each unit (and of EXECUTE's two stages) that is reached although "
    "every other unit with an error has stopped at its own. Dispatch is such a unit, CONTROL: it finds undefined "
    "headers, and the end of the region without END, as soon as it gets there. It waits where a queue is full; a "
    "queue has room for `queue_depth` instructions beside the one that runs, the SFU's for one more that waits, "
    "EXECUTE's for the up to 8 whose rows have not begun (of EXECUTEs at most 2, or 3 where all weights of the "
    "first are loaded); of a unit with an error, for 4 more. `systolith run --backend isa` reports the first of "
    "them in the program.",
    "",
    "WATCHDOG is reported only if no unit reaches an error: for the first unit, by number, whose next instruction "
    "lacks a token (of EXECUTE's stages, the one with the older instruction).",
    "",
    "Until the error stops the accelerator, other units go on. Nothing is written outside of regions; STOREs that "
    "retired are whole, of later ones any part may have been written. After a soft reset the next program may "
    "start.",
)
"""Which of several errors is reported, as paragraphs and lines of Markdown."""


@dataclass(frozen=True)
class Field:
    """A bit field. `value` in [low, high], where signed fields are two's complement; or one of `values`."""

    name: str
    bits: int
    doc: str
    signed: bool = False
    values: type[_Described] | None = None

    @property
    def low(self) -> int:
        return -(1 << self.bits - 1) if self.signed else 0

    @property
    def high(self) -> int:
        return (1 << self.bits - self.signed) - 1


@dataclass(frozen=True)
class Format:
    """The payload of one opcode (for CONFIG, of one unit and group); `fields` are packed upwards from `start`."""

    name: str
    opcode: Opcode
    unit: Unit
    doc: str
    fields: tuple[Field, ...] = ()
    group: int | None = None

    def __getitem__(self, name: str) -> Field:
        """The field of that name. Raises KeyError if there is none."""
        for field in self.fields:
            if field.name == name:
                return field
        raise KeyError(f"{self.name} has no field {name!r}")

    @property
    def start(self) -> int:
        """First bit of the payload."""
        return PAYLOAD_START + (GROUP.bits if self.group is not None else 0)


HEADER = (
    Field("opcode", 4, "what to do"),
    Field("unit", max(Unit).bit_length(), f"who does it; {Unit.CONTROL.value} for FENCE and END"),
    Field("wait", UNITS, "mask of units to take a token from before the first access"),
    Field("signal", UNITS, "mask of units to give a token to after the last access"),
    Field("reserved", 1, "zero"),
)
PAYLOAD_START = sum(f.bits for f in HEADER)
GROUP = Field("group", 4, "which group of constants")
