"""Numbers of opcodes, units, regions and errors; and what formats are made of: fields behind a common header."""

import enum
from dataclasses import dataclass

__all__ = [
    "ERRORS",
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
