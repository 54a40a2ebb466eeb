"""Signatures at which blocks meet. Every multi-bit signal that crosses a block boundary has its layout here.

Three rules hold everywhere. Streams are `amaranth.lib.stream`: a transfer happens in a cycle with valid and ready. SRAM
reads return data exactly `READ_LATENCY` cycles after the cycle in which the request was taken. Blocks reset by the one
`sync` domain (`rst`, active high), and stop starting anything new while `halt` is high.
"""

from functools import reduce
from operator import or_

from amaranth.hdl import Const, signed, unsigned
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from systolith import isa
from systolith.config import Config
from systolith.isa import COUNT_BITS, EXTENT_BITS, STEP_BITS, UNITS

__all__ = [
    "INDEX_BITS",
    "POSITION_BITS",
    "READ_LATENCY",
    "ErrorCode",
    "Fault",
    "Issued",
    "ReadBus",
    "Regions",
    "SramRead",
    "SramWrite",
    "TokenPort",
    "UnitPort",
    "WriteBus",
    "fields_layout",
    "has_value",
    "header",
    "payload",
    "undefined_value",
]

READ_LATENCY = 2
INDEX_BITS = 24
"""Bits of an instruction index."""
FARTHEST = (1 << EXTENT_BITS - 1) + (1 << COUNT_BITS + STEP_BITS) + (1 << 2 * STEP_BITS)
"""No input row or column that an instruction reaches: a start, and counts times strides and dilations."""
POSITION_BITS = 1 + FARTHEST.bit_length()
"""Holds any input row or column that an instruction reaches."""


class ErrorCode(enum.Enum, shape=8):
    """The numbers of `systolith.isa.Error`, as the register `error` has them."""

    _ignore_ = ["error"]
    for error in isa.Error:
        vars()[error.name] = error.value


class Issued(data.Struct):
    """An instruction on its way to a unit: its 128 bits, and its index in the program."""

    word: 8 * isa.INSTRUCTION_BYTES
    index: INDEX_BITS


class Fault(data.Struct):
    """What went wrong, for one cycle or longer; code 0 is nothing. The first one stops the accelerator."""

    code: ErrorCode
    index: INDEX_BITS


def fields_layout(form: isa.Format) -> data.StructLayout:
    """The payload fields of an instruction format as an Amaranth layout, from its first bit up."""
    return data.StructLayout({f.name: signed(f.bits) if f.signed else unsigned(f.bits) for f in form.fields})


def payload(form: isa.Format, word):
    """View the 128 bits of an instruction as the payload of `form`: `payload(EXECUTE, issued.word).rows`."""
    layout = fields_layout(form)
    return data.View(layout, word[form.start : form.start + layout.size])


def has_value(field, value: int):
    """Whether a field has this value; of one bit it is the field itself, or its inverse."""
    if len(field) > 1:
        return field == value
    return field if value else ~field


def undefined_value(form: isa.Format, name: str, field):
    """Whether a field has a value that its format does not define."""
    values = form[name].values or range(1 << len(field))
    others = [value for value in range(1 << len(field)) if value not in set(values)]
    return reduce(or_, [field == value for value in others] or [Const(0)])


def header(word):
    """View the first bits of an instruction: the fields of `isa.HEADER`, and `group`, which is one of CONFIG only."""
    layout = data.StructLayout({f.name: f.bits for f in (*isa.HEADER, isa.GROUP)})
    return data.View(layout, word[: layout.size])


class TokenPort(wiring.Signature):
    """A unit's (or a unit stage's) side of the token counters.

    `need`: mask of units a token is needed from; `ready`: each of them has one (combinational); `take`: consume
    them, in a cycle with `ready`. `need` = 0 is always ready. `index`: the instruction that needs
    them, for the watchdog's report.
    """

    def __init__(self):
        super().__init__({"need": Out(UNITS), "ready": In(1), "take": Out(1), "index": Out(INDEX_BITS)})


class UnitPort(wiring.Signature):
    """What every unit has, seen from the unit.

    `instruction`: its queue's output. `tokens`: see TokenPort. `give`: pulse, mask of units that get a token now; comes
    with `retired`: pulse, the instruction `retired_index` is done with its last access (CONFIG retires too). `busy`:
    something is in flight. `fault`: see Fault. `halt`: start nothing new, ever, until reset.
    """

    def __init__(self):
        super().__init__(
            {
                "instruction": In(stream.Signature(Issued)),
                "tokens": Out(TokenPort()),
                "give": Out(UNITS),
                "retired": Out(1),
                "retired_index": Out(INDEX_BITS),
                "busy": Out(1),
                "fault": Out(Fault),
                "halt": In(1),
            }
        )


class SramRead(wiring.Signature):
    """Read port seen from the reader: a request is taken with valid and ready, data comes READ_LATENCY cycles later."""

    def __init__(self, depth: int, width: int):
        super().__init__(
            {
                "valid": Out(1),
                "ready": In(1),
                "address": Out(ceil_log2(depth)),
                "data": In(width),
            }
        )


class SramWrite(wiring.Signature):
    """Write port seen from the writer: taken with valid and ready; `mask` has a bit for each byte of `data`."""

    def __init__(self, depth: int, width: int):
        super().__init__(
            {
                "valid": Out(1),
                "ready": In(1),
                "address": Out(ceil_log2(depth)),
                "data": Out(width),
                "mask": Out(width // 8),
            }
        )


class ReadBus(wiring.Signature):
    """Bursts from memory, seen from a requester (fetch, load units).

    `request`: byte address (a multiple of the beat) and beats - 1; it never crosses 4 KiB. Beats come back in the order
    of the requests, one `beat_valid` a cycle, and cannot be refused: ask only for what there is room for.
    """

    def __init__(self, config: Config):
        super().__init__(
            {
                "request": Out(stream.Signature(data.StructLayout({"address": config.axi_addr_bits, "beats": 8}))),
                "beat_valid": In(1),
                "beat_data": In(config.axi_data_bits),
                "beat_error": In(1),
            }
        )


class WriteBus(wiring.Signature):
    """Bursts to memory, seen from the store unit.

    `request` as in ReadBus; then beats with strobes, in order, as many as were requested. `done` pulses once for each
    burst acknowledged, `error` with it if the memory refused.
    """

    def __init__(self, config: Config):
        super().__init__(
            {
                "request": Out(stream.Signature(data.StructLayout({"address": config.axi_addr_bits, "beats": 8}))),
                "beat": Out(
                    stream.Signature(data.StructLayout({"data": config.axi_data_bits, "strobe": config.axi_bytes}))
                ),
                "done": In(1),
                "error": In(1),
            }
        )


class Regions(wiring.Signature):
    """The region table, seen from its users: `base` is a byte address, `limit` the bytes in the region."""

    def __init__(self, config: Config):
        layout = data.ArrayLayout(data.StructLayout({"base": config.axi_addr_bits, "limit": 33}), 8)
        super().__init__({"table": In(layout)})
