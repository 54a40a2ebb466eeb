"""Numbers of opcodes, units, regions and errors; and what formats are made of: fields behind a common header."""

import enum
from dataclasses import dataclass

__all__ = [
    "ERRORS",
    "ERROR_ORDER",
    "GROUP",
    "HEADER",
    "INSTRUCTION_BYTES",
    "PAYLOAD_START",
    "Field",
    "Format",
    "Opcode",
    "Region",
    "Unit",
]

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


class Region(enum.IntEnum):
    """Numbers of the memory regions by convention; hardware treats all eight alike, but it fetches from CODE."""

    CODE = 0
    WEIGHTS = 1
    INPUT = 2
    OUTPUT = 3
    SCRATCH = 4


ERRORS = {
    0: ("NONE", "no error"),
    1: ("OPCODE", "undefined opcode, or an opcode the named unit does not have, or an undefined CONFIG group"),
    2: ("OPERAND", "a count of zero, or a tile that leaves its accumulator half"),
    3: ("SRAM_RANGE", "SRAM address out of range"),
    4: ("REGION_RANGE", "memory access outside its region"),
    5: ("AXI_READ", "the memory answered a read with an error"),
    6: ("AXI_WRITE", "the memory answered a write with an error"),
    7: ("TOKEN_OVERFLOW", "a token counter would overflow"),
    8: ("WATCHDOG", "no progress; detail is the mask of units whose token is missing"),
}


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
    """A bit field. `value` in [low, high], where signed fields are two's complement."""

    name: str
    bits: int
    doc: str
    signed: bool = False

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

    @property
    def start(self) -> int:
        """First bit of the payload."""
        return PAYLOAD_START + (GROUP.bits if self.group is not None else 0)


HEADER = (
    Field("opcode", 4, "what to do"),
    Field("unit", 3, "who does it; 7 for FENCE and END"),
    Field("wait", 6, "mask of units to take a token from before the first access"),
    Field("signal", 6, "mask of units to give a token to after the last access"),
    Field("reserved", 1, "zero"),
)
PAYLOAD_START = sum(f.bits for f in HEADER)
GROUP = Field("group", 4, "which group of constants")
