"""The formats of all instructions, in the order of the reference page."""

from systolith.isa.fields import (
    INSTRUCTION_BYTES,
    Field,
    Format,
    LoadTarget,
    Opcode,
    Reduction,
    SecondOperand,
    SfuSource,
    Unit,
)
from systolith.isa.widths import (
    ACC_BITS,
    ADDRESS_BITS,
    COUNT_BITS,
    EXTENT_BITS,
    OFFSET_BITS,
    PARAM_BITS,
    REGION_BITS,
    STEP_BITS,
    VALUE_BITS,
)

__all__ = ["CONFIG_FORMATS", "FORMATS", "form"]

_WRAPS = f"wraps at 2^{ADDRESS_BITS}"
_REGION = Field("region", REGION_BITS, "memory region")
_OFFSET = Field("offset", OFFSET_BITS, f"bytes from the start of the region; row arithmetic wraps at 2^{OFFSET_BITS}")
_SRAM = Field("sram", ADDRESS_BITS, "first word of activation SRAM")
_ROW_STRIDE = Field("row_stride", ADDRESS_BITS, "SRAM words from one row to the next")
_ROWS = Field("rows", COUNT_BITS, "outer count")
_COLS = Field("cols", COUNT_BITS, "inner count")
_ACC = Field("acc", ACC_BITS, "first accumulator row; rows * cols of them stay inside one half")
_PADDING = Field("zero_point", VALUE_BITS, "what padding reads as", signed=True)
_INPUT = "The input tensor. A position outside [0, height) x [0, width) reads as zero_point in every channel."
_TENSOR = (
    Field("height", EXTENT_BITS, "rows of the tensor"),
    Field("width", EXTENT_BITS, "columns of the tensor"),
    Field("row_stride", ADDRESS_BITS, "SRAM words from row y to row y + 1"),
)
_ORIGIN = (
    Field("y0", EXTENT_BITS, "input row of output row 0 and kernel row 0", signed=True),
    Field("x0", EXTENT_BITS, "input column of output column 0 and kernel column 0", signed=True),
)
_KERNEL = (
    Field("kernel_y", STEP_BITS, "kernel rows, at least 1"),
    Field("kernel_x", STEP_BITS, "kernel columns, at least 1"),
)
_STRIDES = (
    Field("stride_y", STEP_BITS, "input rows from one output row to the next"),
    Field("stride_x", STEP_BITS, "input columns from one output column to the next"),
)
_DILATIONS = (
    Field("dilation_y", STEP_BITS, "input rows from one kernel row to the next"),
    Field("dilation_x", STEP_BITS, "input columns from one kernel column to the next"),
)

FORMATS: dict[tuple[Opcode, Unit], Format] = {}
CONFIG_FORMATS: dict[tuple[Unit, int], Format] = {}


def _define(name: str, opcode: Opcode, unit: Unit, doc: str, *fields: Field, group: int | None = None):
    form = Format(name, opcode, unit, doc, fields, group)
    if form.start + sum(f.bits for f in fields) > 8 * INSTRUCTION_BYTES:
        raise AssertionError(f"{name} does not fit into {INSTRUCTION_BYTES} bytes")
    if group is None:
        FORMATS[opcode, unit] = form
    else:
        CONFIG_FORMATS[unit, group] = form


_define(
    "CONFIG.LOAD_A.source",
    Opcode.CONFIG,
    Unit.LOAD_A,
    "Rows in memory. A row with y outside [0, height), and a byte outside [0, row_bytes) of its row, "
    "reads as zero_point.",
    Field("row_pitch", OFFSET_BITS, f"bytes from one loaded row to the next (wraps at 2^{OFFSET_BITS})"),
    Field("height", EXTENT_BITS, "rows that exist: y in [0, height)"),
    Field("row_step", 6, "increment of y from one loaded row to the next"),
    Field("row_bytes", 24, "bytes that exist in a row"),
    group=0,
)
_define(
    "CONFIG.LOAD_A.window",
    Opcode.CONFIG,
    Unit.LOAD_A,
    "How bytes of a row become SRAM words: word x takes `length` bytes from byte x0 + x * step, at byte lane `lane`.",
    Field("step", 12, "bytes from one word's window to the next; at least 1"),
    Field("length", 9, "bytes written in each word, 1 to N; lane + length <= N; other bytes of the word are kept"),
    Field("lane", 8, "first byte lane written"),
    _PADDING,
    _ROW_STRIDE,
    group=1,
)
_define(
    "CONFIG.EXECUTE.input",
    Opcode.CONFIG,
    Unit.EXECUTE,
    _INPUT,
    *_TENSOR,
    Field("block_stride", ADDRESS_BITS, "SRAM words from a channel block to the next"),
    _PADDING,
    group=0,
)
_define(
    "CONFIG.EXECUTE.kernel",
    Opcode.CONFIG,
    Unit.EXECUTE,
    "The K tiles, in the order kernel y (outermost), kernel x, channel block (innermost).",
    *_KERNEL,
    Field("blocks", COUNT_BITS, "channel blocks, at least 1"),
    *_STRIDES,
    *_DILATIONS,
    group=1,
)
_define(
    "CONFIG.SFU.output",
    Opcode.CONFIG,
    Unit.SFU,
    "Requantization, and the layout of the output.",
    Field("zero_point", VALUE_BITS, "added after rounding", signed=True),
    Field("clamp_min", VALUE_BITS, "smallest requantized value, at most clamp_max", signed=True),
    Field("clamp_max", VALUE_BITS, "largest requantized value", signed=True),
    Field("row_stride", ADDRESS_BITS, "SRAM words from one output row to the next"),
    Field("col_stride", 8, "SRAM words from one output column to the next, at least 1"),
    Field("lookup", 1, "1: the result is the table's entry for the value, as the last step"),
    group=0,
)
_define(
    "CONFIG.SFU.input",
    Opcode.CONFIG,
    Unit.SFU,
    "What windows slide over. A position outside [0, height) x [0, width) reads as `pad` in every channel.",
    Field("height", EXTENT_BITS, "rows that exist"),
    Field("width", EXTENT_BITS, "columns that exist"),
    Field("row_stride", ADDRESS_BITS, "words (of activations) or rows (of accumulators) from row y to row y + 1"),
    *_ORIGIN,
    Field("pad", VALUE_BITS, "what a position outside reads as", signed=True),
    group=1,
)
_define(
    "CONFIG.SFU.window",
    Opcode.CONFIG,
    Unit.SFU,
    "The window that is reduced to one value; 1 x 1 reads single values.",
    Field("kernel_y", STEP_BITS, "window rows, at least 1"),
    Field("kernel_x", STEP_BITS, "window columns, at least 1"),
    *_STRIDES,
    Field("dilation_y", STEP_BITS, "input rows from one window row to the next"),
    Field("dilation_x", STEP_BITS, "input columns from one window column to the next"),
    group=2,
)
_define(
    "CONFIG.SFU.operand",
    Opcode.CONFIG,
    Unit.SFU,
    "The second operand, in activation SRAM: output (oy, ox) takes word operand + oy * row_stride + ox * col_step.",
    Field("row_stride", ADDRESS_BITS, "words from one output row to the next; 0: the same row for all"),
    Field("col_step", 1, "words from one output column to the next; 0: the same word for all"),
    Field("zero_a", VALUE_BITS, "subtracted from the first operand", signed=True),
    Field("zero_b", VALUE_BITS, "subtracted from the second operand", signed=True),
    group=3,
)
_define(
    "CONFIG.SFU.add",
    Opcode.CONFIG,
    Unit.SFU,
    "Constants of adding the second operand.",
    Field("multiplier_a", 27, "factor of the requantized value", signed=True),
    Field("multiplier_b", 27, "factor of the second operand", signed=True),
    Field("shift", 6, "the sum is divided by 2^shift"),
    Field("zero_point", VALUE_BITS, "added to that, before rounding to nearest even", signed=True),
    Field("clamp_min", VALUE_BITS, "smallest sum, at most clamp_max", signed=True),
    Field("clamp_max", VALUE_BITS, "largest sum", signed=True),
    group=4,
)
_define(
    "CONFIG.SFU.table",
    Opcode.CONFIG,
    Unit.SFU,
    "Eight entries of the table: byte k is what value 8 * index + k, as an unsigned byte, becomes. "
    "Waits until every instruction before it is done.",
    Field("index", 5, "which eight entries"),
    Field("entries", 64, "eight bytes, the first one lowest"),
    group=5,
)
_define(
    "CONFIG.DEPTHWISE.input",
    Opcode.CONFIG,
    Unit.DEPTHWISE,
    _INPUT,
    *_TENSOR,
    _PADDING,
    group=0,
)
_define(
    "CONFIG.DEPTHWISE.kernel",
    Opcode.CONFIG,
    Unit.DEPTHWISE,
    "The taps.",
    *_KERNEL,
    *_STRIDES,
    *_DILATIONS,
    group=1,
)
_define(
    "CONFIG.STORE.target",
    Opcode.CONFIG,
    Unit.STORE,
    "Rows in SRAM and in memory.",
    Field("row_pitch", OFFSET_BITS, f"bytes from one stored row to the next (wraps at 2^{OFFSET_BITS})"),
    _ROW_STRIDE,
    group=0,
)
_define(
    "LOAD.W",
    Opcode.LOAD,
    Unit.LOAD_W,
    "Copy words * N contiguous bytes from memory to weight or parameter SRAM.",
    _REGION,
    _OFFSET,
    Field(
        "sram",
        ADDRESS_BITS,
        "first destination: a word of weight SRAM, or an N-byte chunk of parameter SRAM (8 to a word)",
    ),
    Field("words", 20, "N-byte words to copy, at least 1"),
    Field("target", 1, "destination", values=LoadTarget),
)
_define(
    "LOAD.A",
    Opcode.LOAD,
    Unit.LOAD_A,
    "Load rows x cols words of activation SRAM: word (r, x) goes to sram + r * row_stride + x, "
    "from row y0 + r * row_step.",
    _REGION,
    _OFFSET,
    _SRAM,
    _ROWS,
    _COLS,
    Field("x0", 16, "byte of the row where the window of column 0 starts", signed=True),
    Field("y0", EXTENT_BITS, "number of the first row; `offset` is where its byte 0 is (or would be)", signed=True),
)
_define(
    "EXECUTE",
    Opcode.EXECUTE,
    Unit.EXECUTE,
    "For every K tile (ky, kx, block): take the next N weight words, and for every output (oy, ox) multiply-accumulate "
    "the input word at y = y0 + oy * stride_y + ky * dilation_y, x = x0 + ox * stride_x + kx * dilation_x, which lies "
    f"at act + block * block_stride + y * row_stride + x (mod 2^{ADDRESS_BITS}), into accumulator row "
    "acc + oy * cols + ox.",
    Field("act", ADDRESS_BITS, f"where word (0, 0) of channel block 0 is, or would be ({_WRAPS})"),
    Field("weight", ADDRESS_BITS, "first weight word; K tile k is at weight + k * N, row r of a tile is word r"),
    *_ORIGIN,
    _ROWS,
    _COLS,
    _ACC,
    Field("accumulate", 1, "0: the first K tile overwrites the accumulators, 1: it adds to them"),
)
_define(
    "DEPTHWISE",
    Opcode.EXECUTE,
    Unit.DEPTHWISE,
    "For every output (oy, ox) and lane: the sum over (ky, kx) of the lane of the input word at "
    "y = y0 + oy * stride_y + ky * dilation_y, x = x0 + ox * stride_x + kx * dilation_x, which lies at "
    f"act + y * row_stride + x (mod 2^{ADDRESS_BITS}), times the lane of weight word weight + ky * kernel_x + kx; "
    "it overwrites row acc + oy * cols + ox of the depthwise accumulators. Words between those, in the box inside the "
    "input that the windows span, may be read as well, and must be there.",
    Field("act", ADDRESS_BITS, f"where word (0, 0) is, or would be ({_WRAPS})"),
    Field("weight", ADDRESS_BITS, "first weight word"),
    *_ORIGIN,
    _ROWS,
    _COLS,
    _ACC,
)
_define(
    "SFU",
    Opcode.SFU,
    Unit.SFU,
    "For every output (oy, ox) and channel: reduce the window of input positions y = y0 + oy * stride_y + ky * "
    "dilation_y, x = x0 + ox * stride_x + kx * dilation_x, which lie at source + y * row_stride + x, to v; with second "
    "= multiply v = (v - zero_a) * (operand - zero_b); r = clamp(rint(float32(v + bias) * scale) + zero_point), but "
    "after a multiplication a tie goes where the sum with zero_point is even; with second = add r = clamp(rint(((r - "
    "zero_a) * multiplier_a + (operand - zero_b) * multiplier_b) / 2^shift + zero_point)) of CONFIG.SFU.add; with "
    "lookup r = table[r]; write r to dst + oy * row_stride + ox * col_stride.",
    Field("memory", 2, "source", values=SfuSource),
    Field("reduce", 1, "reduction", values=Reduction),
    Field("second", 2, "second operand", values=SecondOperand),
    Field("drain", 1, "1: start when every result of the instructions before it is written"),
    Field(
        "source",
        ADDRESS_BITS,
        f"where position (0, 0) is, or would be ({_WRAPS}); of accumulators, a row there is, whose half all are in",
    ),
    Field("operand", ADDRESS_BITS, "first word of the second operand in activation SRAM"),
    Field("dst", ADDRESS_BITS, "first word of activation SRAM written"),
    _ROWS,
    _COLS,
    Field("param", PARAM_BITS, "word of parameter SRAM: bias and scale of N channels"),
)
_define(
    "STORE",
    Opcode.STORE,
    Unit.STORE,
    "Store rows x cols words of activation SRAM, N bytes each, contiguous within a row.",
    _REGION,
    _OFFSET,
    _SRAM,
    _ROWS,
    _COLS,
)
_define("FENCE", Opcode.FENCE, Unit.CONTROL, "Dispatch nothing more until every unit is idle.")
_define("END", Opcode.END, Unit.CONTROL, "Wait until every unit is idle and every write is acknowledged; then done.")


_BY_NAME = {form.name: form for form in (*FORMATS.values(), *CONFIG_FORMATS.values())}


def form(name: str) -> Format:
    """The format of that name, "EXECUTE" or "CONFIG.SFU.output". Raises KeyError if there is none."""
    return _BY_NAME[name]
