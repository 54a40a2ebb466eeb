"""The instruction set: the only definition. Encoder, decoder, disassembler, hardware and documents derive from it.

An instruction is 128 bits, stored little-endian. Fields are packed from bit 0 up in the order of `HEADER` followed by
the order of the format. Units run their instructions in order and apart from each other; `wait` and `signal` are masks
over units: an instruction starts after taking one token from each unit in `wait`, and gives one token to each unit in
`signal` when its last access is done.
"""

import enum
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from systolith.errors import SystolithError

__all__ = [
    "CONFIG_FORMATS",
    "ERRORS",
    "FORMATS",
    "HEADER",
    "INSTRUCTION_BYTES",
    "Field",
    "Format",
    "Instruction",
    "Opcode",
    "Region",
    "Unit",
    "decode",
    "decode_program",
    "disassemble",
    "encode",
    "encode_program",
    "make",
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
    units: tuple[Unit, ...]
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

_REGION = Field("region", 3, "memory region")
_OFFSET = Field("offset", 32, "bytes from the start of the region; row arithmetic wraps at 2^32")
_ROWS = Field("rows", 12, "outer count")
_COLS = Field("cols", 12, "inner count")
_ACC = Field("acc", 14, "first accumulator row; rows * cols of them stay inside one half")

FORMATS: dict[tuple[Opcode, Unit], Format] = {}
CONFIG_FORMATS: dict[tuple[Unit, int], Format] = {}


def _define(name: str, opcode: Opcode, units: tuple[Unit, ...], doc: str, *fields: Field, group: int | None = None):
    form = Format(name, opcode, units, doc, fields, group)
    if form.start + sum(f.bits for f in fields) > 8 * INSTRUCTION_BYTES:
        raise AssertionError(f"{name} does not fit into {INSTRUCTION_BYTES} bytes")
    for unit in units:
        if group is None:
            FORMATS[opcode, unit] = form
        else:
            CONFIG_FORMATS[unit, group] = form


_define(
    "CONFIG.LOAD_A.source",
    Opcode.CONFIG,
    (Unit.LOAD_A,),
    "Rows in memory. A row with y outside [0, height), and a byte outside [0, row_bytes) of its row, "
    "reads as zero_point.",
    Field("row_pitch", 32, "bytes from one loaded row to the next (wraps at 2^32)"),
    Field("height", 14, "rows that exist: y in [0, height)"),
    Field("row_step", 6, "increment of y from one loaded row to the next"),
    Field("row_bytes", 24, "bytes that exist in a row"),
    group=0,
)
_define(
    "CONFIG.LOAD_A.window",
    Opcode.CONFIG,
    (Unit.LOAD_A,),
    "How bytes of a row become SRAM words: word x takes `length` bytes from byte x0 + x * step, at byte lane `lane`.",
    Field("step", 12, "bytes from one word's window to the next; at least 1"),
    Field("length", 9, "bytes written in each word, 1 to N; lane + length <= N; other bytes of the word are kept"),
    Field("lane", 8, "first byte lane written"),
    Field("zero_point", 8, "what padding reads as", signed=True),
    Field("row_stride", 18, "SRAM words from one row to the next"),
    group=1,
)
_define(
    "CONFIG.EXECUTE.input",
    Opcode.CONFIG,
    (Unit.EXECUTE,),
    "The input tensor. A position outside [0, height) x [0, width) reads as zero_point in every channel.",
    Field("height", 14, "rows of the tensor"),
    Field("width", 14, "columns of the tensor"),
    Field("row_stride", 18, "SRAM words from row y to row y + 1"),
    Field("block_stride", 18, "SRAM words from a channel block to the next"),
    Field("zero_point", 8, "what padding reads as", signed=True),
    group=0,
)
_define(
    "CONFIG.EXECUTE.kernel",
    Opcode.CONFIG,
    (Unit.EXECUTE,),
    "The K tiles, in the order kernel y (outermost), kernel x, channel block (innermost).",
    Field("kernel_y", 8, "kernel rows, at least 1"),
    Field("kernel_x", 8, "kernel columns, at least 1"),
    Field("blocks", 12, "channel blocks, at least 1"),
    Field("stride_y", 8, "input rows from one output row to the next"),
    Field("stride_x", 8, "input columns from one output column to the next"),
    Field("dilation_y", 8, "input rows from one kernel row to the next"),
    Field("dilation_x", 8, "input columns from one kernel column to the next"),
    group=1,
)
_define(
    "CONFIG.SFU.output",
    Opcode.CONFIG,
    (Unit.SFU,),
    "Requantization, and the layout of the output.",
    Field("zero_point", 8, "added after rounding", signed=True),
    Field("clamp_min", 8, "smallest requantized value, at most clamp_max", signed=True),
    Field("clamp_max", 8, "largest requantized value", signed=True),
    Field("row_stride", 18, "SRAM words from one output row to the next"),
    Field("col_stride", 8, "SRAM words from one output column to the next, at least 1"),
    Field("lookup", 1, "1: the result is the table's entry for the value, as the last step"),
    group=0,
)
_define(
    "CONFIG.SFU.input",
    Opcode.CONFIG,
    (Unit.SFU,),
    "What windows slide over. A position outside [0, height) x [0, width) reads as `pad` in every channel.",
    Field("height", 14, "rows that exist"),
    Field("width", 14, "columns that exist"),
    Field("row_stride", 18, "words (of activations) or rows (of accumulators) from row y to row y + 1"),
    Field("y0", 14, "input row of output row 0 and kernel row 0", signed=True),
    Field("x0", 14, "input column of output column 0 and kernel column 0", signed=True),
    Field("pad", 8, "what a position outside reads as", signed=True),
    group=1,
)
_define(
    "CONFIG.SFU.window",
    Opcode.CONFIG,
    (Unit.SFU,),
    "The window that is reduced to one value; 1 x 1 reads single values.",
    Field("kernel_y", 8, "window rows, at least 1"),
    Field("kernel_x", 8, "window columns, at least 1"),
    Field("stride_y", 8, "input rows from one output row to the next"),
    Field("stride_x", 8, "input columns from one output column to the next"),
    Field("dilation_y", 8, "input rows from one window row to the next"),
    Field("dilation_x", 8, "input columns from one window column to the next"),
    group=2,
)
_define(
    "CONFIG.SFU.operand",
    Opcode.CONFIG,
    (Unit.SFU,),
    "The second operand, in activation SRAM: output (oy, ox) takes word operand + oy * row_stride + ox * col_step.",
    Field("row_stride", 18, "words from one output row to the next; 0: the same row for all"),
    Field("col_step", 1, "words from one output column to the next; 0: the same word for all"),
    Field("zero_a", 8, "subtracted from the first operand", signed=True),
    Field("zero_b", 8, "subtracted from the second operand", signed=True),
    group=3,
)
_define(
    "CONFIG.SFU.add",
    Opcode.CONFIG,
    (Unit.SFU,),
    "Constants of adding the second operand.",
    Field("multiplier_a", 27, "factor of the requantized value", signed=True),
    Field("multiplier_b", 27, "factor of the second operand", signed=True),
    Field("shift", 6, "the sum is divided by 2^shift"),
    Field("zero_point", 8, "added to that, before rounding to nearest even", signed=True),
    Field("clamp_min", 8, "smallest sum, at most clamp_max", signed=True),
    Field("clamp_max", 8, "largest sum", signed=True),
    group=4,
)
_define(
    "CONFIG.SFU.table",
    Opcode.CONFIG,
    (Unit.SFU,),
    "Eight entries of the table: byte k is what value 8 * index + k, as an unsigned byte, becomes. "
    "Waits until every instruction before it is done.",
    Field("index", 5, "which eight entries"),
    Field("entries", 64, "eight bytes, the first one lowest"),
    group=5,
)
_define(
    "CONFIG.DEPTHWISE.input",
    Opcode.CONFIG,
    (Unit.DEPTHWISE,),
    "The input tensor. A position outside [0, height) x [0, width) reads as zero_point in every channel.",
    Field("height", 14, "rows of the tensor"),
    Field("width", 14, "columns of the tensor"),
    Field("row_stride", 18, "SRAM words from row y to row y + 1"),
    Field("zero_point", 8, "what padding reads as", signed=True),
    group=0,
)
_define(
    "CONFIG.DEPTHWISE.kernel",
    Opcode.CONFIG,
    (Unit.DEPTHWISE,),
    "The taps.",
    Field("kernel_y", 8, "kernel rows, at least 1"),
    Field("kernel_x", 8, "kernel columns, at least 1"),
    Field("stride_y", 8, "input rows from one output row to the next"),
    Field("stride_x", 8, "input columns from one output column to the next"),
    Field("dilation_y", 8, "input rows from one kernel row to the next"),
    Field("dilation_x", 8, "input columns from one kernel column to the next"),
    group=1,
)
_define(
    "CONFIG.STORE.target",
    Opcode.CONFIG,
    (Unit.STORE,),
    "Rows in SRAM and in memory.",
    Field("row_pitch", 32, "bytes from one stored row to the next (wraps at 2^32)"),
    Field("row_stride", 18, "SRAM words from one row to the next"),
    group=0,
)
_define(
    "LOAD.W",
    Opcode.LOAD,
    (Unit.LOAD_W,),
    "Copy words * N contiguous bytes from memory to weight or parameter SRAM.",
    _REGION,
    _OFFSET,
    Field("sram", 18, "first destination: a word of weight SRAM, or an N-byte chunk of parameter SRAM (8 to a word)"),
    Field("words", 20, "N-byte words to copy, at least 1"),
    Field("target", 1, "0 weight SRAM, 1 parameter SRAM"),
)
_define(
    "LOAD.A",
    Opcode.LOAD,
    (Unit.LOAD_A,),
    "Load rows x cols words of activation SRAM: word (r, x) goes to sram + r * row_stride + x, "
    "from row y0 + r * row_step.",
    _REGION,
    _OFFSET,
    Field("sram", 18, "first word of activation SRAM"),
    _ROWS,
    _COLS,
    Field("x0", 16, "byte of the row where the window of column 0 starts", signed=True),
    Field("y0", 14, "number of the first row; `offset` is where its byte 0 is (or would be)", signed=True),
)
_define(
    "EXECUTE",
    Opcode.EXECUTE,
    (Unit.EXECUTE,),
    "For every K tile (ky, kx, block): take the next N weight words, and for every output (oy, ox) multiply-accumulate "
    "the input word at y = y0 + oy * stride_y + ky * dilation_y, x = x0 + ox * stride_x + kx * dilation_x, which lies "
    "at act + block * block_stride + y * row_stride + x (mod 2^18), into accumulator row acc + oy * cols + ox.",
    Field("act", 18, "where word (0, 0) of channel block 0 is, or would be (wraps at 2^18)"),
    Field("weight", 18, "first weight word; K tile k is at weight + k * N, row r of a tile is word r"),
    Field("y0", 14, "input row of output row 0 and kernel row 0", signed=True),
    Field("x0", 14, "input column of output column 0 and kernel column 0", signed=True),
    _ROWS,
    _COLS,
    _ACC,
    Field("accumulate", 1, "0: the first K tile overwrites the accumulators, 1: it adds to them"),
)
_define(
    "DEPTHWISE",
    Opcode.EXECUTE,
    (Unit.DEPTHWISE,),
    "For every output (oy, ox) and lane: the sum over (ky, kx) of the lane of the input word at "
    "y = y0 + oy * stride_y + ky * dilation_y, x = x0 + ox * stride_x + kx * dilation_x, which lies at "
    "act + y * row_stride + x (mod 2^18), times the lane of weight word weight + ky * kernel_x + kx; "
    "it overwrites row acc + oy * cols + ox of the depthwise accumulators.",
    Field("act", 18, "where word (0, 0) is, or would be (wraps at 2^18)"),
    Field("weight", 18, "first weight word"),
    Field("y0", 14, "input row of output row 0 and kernel row 0", signed=True),
    Field("x0", 14, "input column of output column 0 and kernel column 0", signed=True),
    _ROWS,
    _COLS,
    _ACC,
)
_define(
    "SFU",
    Opcode.SFU,
    (Unit.SFU,),
    "For every output (oy, ox) and channel: reduce the window of input positions y = y0 + oy * stride_y + ky * "
    "dilation_y, x = x0 + ox * stride_x + kx * dilation_x, which lie at source + y * row_stride + x, to v; with second "
    "= multiply v = (v - zero_a) * (operand - zero_b); r = clamp(rint(float32(v + bias) * scale) + zero_point), but "
    "after a multiplication a tie goes where the sum with zero_point is even; with second = add r = clamp(rint(((r - "
    "zero_a) * multiplier_a + (operand - zero_b) * multiplier_b) / 2^shift + zero_point)) of CONFIG.SFU.add; with "
    "lookup r = table[r]; write r to dst + oy * row_stride + ox * col_stride.",
    Field("memory", 2, "source: 0 accumulators, 1 activation SRAM, 2 depthwise accumulators"),
    Field("reduce", 1, "0: maximum, 1: sum"),
    Field("second", 2, "second operand: 0 none, 1 add, 2 multiply (only of a maximum of activations)"),
    Field("drain", 1, "1: start when every result of the instructions before it is written"),
    Field(
        "source",
        18,
        "where position (0, 0) is, or would be (wraps at 2^18); of accumulators, a row there is, whose half all are in",
    ),
    Field("operand", 18, "first word of the second operand in activation SRAM"),
    Field("dst", 18, "first word of activation SRAM written"),
    _ROWS,
    _COLS,
    Field("param", 12, "word of parameter SRAM: bias and scale of N channels"),
)
_define(
    "STORE",
    Opcode.STORE,
    (Unit.STORE,),
    "Store rows x cols words of activation SRAM, N bytes each, contiguous within a row.",
    _REGION,
    _OFFSET,
    Field("sram", 18, "first word of activation SRAM"),
    _ROWS,
    _COLS,
)
_define("FENCE", Opcode.FENCE, (Unit.CONTROL,), "Dispatch nothing more until every unit is idle.")
_define("END", Opcode.END, (Unit.CONTROL,), "Wait until every unit is idle and every write is acknowledged; then done.")


@dataclass(frozen=True)
class Instruction:
    """One decoded instruction: `form` names the fields of `values`; `wait` and `signal` are masks over units."""

    form: Format
    unit: Unit
    values: Mapping[str, int] = field(default_factory=dict)
    wait: int = 0
    signal: int = 0

    def __getitem__(self, name: str) -> int:
        return self.values[name]


def make(name: str, wait: int = 0, signal: int = 0, **values: int) -> Instruction:
    """An instruction by format name ("EXECUTE", "LOAD.W", "CONFIG.SFU.output" ...); every field must be given."""
    form = _BY_NAME[name]
    expected = [f.name for f in form.fields]
    if set(values) != set(expected):
        raise SystolithError(f"Instruction {name} must have fields {expected}, not {sorted(values)}")
    return Instruction(form, form.units[0], values, wait, signal)


def encode(instruction: Instruction) -> bytes:
    """The 16 bytes. Raises SystolithError for a value that does not fit its field."""
    form = instruction.form
    header = {
        "opcode": form.opcode,
        "unit": instruction.unit,
        "wait": instruction.wait,
        "signal": instruction.signal,
        "reserved": 0,
    }
    word, position = _pack(form.name, HEADER, header, 0)
    if form.group is not None:
        word |= form.group << position
    payload, _ = _pack(form.name, form.fields, instruction.values, form.start)
    return (word | payload).to_bytes(INSTRUCTION_BYTES, "little")


def decode(data: bytes, index: int = 0) -> Instruction:
    """The instruction in 16 bytes. Raises SystolithError naming `index` if it is undefined or unused bits are set."""
    if len(data) != INSTRUCTION_BYTES:
        raise SystolithError(f"Instruction {index} must have {INSTRUCTION_BYTES} bytes, not {len(data)}")
    word = int.from_bytes(data, "little")
    header = _unpack(HEADER, word, 0)
    form = _format_of(header, word >> PAYLOAD_START & (1 << GROUP.bits) - 1, index)
    values = _unpack(form.fields, word, form.start)
    instruction = Instruction(form, Unit(header["unit"]), values, header["wait"], header["signal"])
    if encode(instruction) != data:
        raise SystolithError(f"Instruction {index} ({form.name}) must have zeros in its unused bits, not {data.hex()}")
    return instruction


def encode_program(instructions: Iterable[Instruction]) -> bytes:
    """All instructions, one after the other."""
    return b"".join(encode(instruction) for instruction in instructions)


def decode_program(code: bytes) -> Iterator[Instruction]:
    """The instructions in `code`, whose length must be a multiple of 16 bytes."""
    if len(code) % INSTRUCTION_BYTES:
        raise SystolithError(f"Code must be a multiple of {INSTRUCTION_BYTES} bytes, not {len(code)}")
    for index in range(len(code) // INSTRUCTION_BYTES):
        start = index * INSTRUCTION_BYTES
        yield decode(code[start : start + INSTRUCTION_BYTES], index)


def disassemble(instruction: Instruction) -> str:
    """One line of text: format, fields, and the units waited for and signalled."""
    text = " ".join([f"{instruction.form.name:<22}", *(f"{k}={v}" for k, v in instruction.values.items())])
    if instruction.wait:
        text += f" wait={_mask_text(instruction.wait)}"
    if instruction.signal:
        text += f" signal={_mask_text(instruction.signal)}"
    return text.rstrip()


def _mask_text(mask: int) -> str:
    return ",".join(unit.name.lower() for unit in Unit if mask >> unit & 1)


def _pack(name: str, fields: Iterable[Field], values: Mapping[str, int], position: int) -> tuple[int, int]:
    word = 0
    for f in fields:
        value = int(values[f.name])
        if not f.low <= value <= f.high:
            raise SystolithError(f"Field '{f.name}' of {name} must be from {f.low} to {f.high}, not {value}")
        word |= (value & (1 << f.bits) - 1) << position
        position += f.bits
    return word, position


def _unpack(fields: Iterable[Field], word: int, position: int) -> dict[str, int]:
    values = {}
    for f in fields:
        value = word >> position & (1 << f.bits) - 1
        values[f.name] = value - (1 << f.bits) if f.signed and value >> f.bits - 1 else value
        position += f.bits
    return values


def _format_of(header: Mapping[str, int], group: int, index: int) -> Format:
    try:
        opcode, unit = Opcode(header["opcode"]), Unit(header["unit"])
        return CONFIG_FORMATS[unit, group] if opcode == Opcode.CONFIG else FORMATS[opcode, unit]
    except (ValueError, KeyError):
        raise SystolithError(
            f"Instruction {index} must be a defined opcode of its unit, not opcode {header['opcode']}, "
            f"unit {header['unit']}, group {group}"
        ) from None


_BY_NAME = {form.name: form for form in (*FORMATS.values(), *CONFIG_FORMATS.values())}
