"""Which instruction it is: what the decoders of the DMA units share."""

from collections.abc import Mapping

from amaranth.hdl import Cat, Module, Shape, Signal, Value
from amaranth.lib import data

from systolith import isa
from systolith.hw.interfaces import ErrorCode, header

__all__ = ["connect_start", "is_form", "packed"]


def is_form(form: isa.Format, word):
    """Whether the 128 bits are an instruction of this format (of the unit they were sent to)."""
    fields = header(word)
    matches = fields.opcode == form.opcode
    return matches if form.group is None else matches & (fields.group == form.group)


def connect_start(m: Module, unit, job, code, allowed) -> Signal:
    """Start the instruction at the head of the queue as `job`, in a cycle with `allowed`, its tokens, and room.

    An instruction with an error (`code`) waits for no tokens. Returns: it starts now.
    """
    instruction, tokens = unit.instruction, unit.tokens
    start = Signal()
    with m.If(instruction.valid & allowed & (code == ErrorCode.NONE)):
        m.d.comb += tokens.need.eq(header(instruction.p.word).wait)
    m.d.comb += [
        tokens.index.eq(instruction.p.index),
        job.valid.eq(instruction.valid & allowed & tokens.ready),
        start.eq(job.valid & job.ready),
        tokens.take.eq(start),
        instruction.ready.eq(start),
    ]
    return start


def packed(m: Module, layout, values: Mapping) -> Value:
    """A struct of these fields (nested ones as mappings), 0 where there is none, as one value.

    Fields of a port must not be driven one by one where some are constants: in Verilog those would become `always @*`
    blocks without inputs, which never run.
    """
    fields = []
    for name, field in data.Layout.cast(layout):
        value = values.get(name, 0)
        part = Signal(Shape.cast(field.shape), name=f"{name}_field")
        m.d.comb += part.eq(packed(m, field.shape, value) if isinstance(value, Mapping) else value)
        fields.append(part)
    return Cat(fields)
