"""Decoder parts that all units share: kind of an instruction, its start with its tokens, the constants of CONFIG."""

from collections.abc import Mapping

from amaranth.hdl import Cat, Module, Shape, Signal, Value
from amaranth.lib import data

from systolith import isa
from systolith.hw.interfaces import ErrorCode, fields_layout, header, payload
from systolith.isa import UNITS

__all__ = ["config_register", "connect_start", "is_form", "packed"]

ALL = (1 << UNITS) - 1


def is_form(form: isa.Format, word):
    """Whether the 128 bits are an instruction of this format (of the unit they were sent to)."""
    fields = header(word)
    matches = fields.opcode == form.opcode
    return matches if form.group is None else matches & (fields.group == form.group)


def config_register(m: Module, instruction, form: isa.Format) -> Signal:
    """The constants of the last CONFIG of this form that was taken from the stream `instruction`."""
    constants = Signal(fields_layout(form), name=form.name.replace(".", "_").lower())
    word = instruction.p.word
    with m.If(instruction.valid & instruction.ready & is_form(form, word)):
        m.d.sync += constants.eq(payload(form, word))
    return constants


def connect_start(m: Module, unit, job, allowed, code=ErrorCode.NONE, units=ALL, room=1) -> Signal:
    """Start the instruction at the head of the queue as `job`, in a cycle with `allowed`, its tokens, and `room`.

    An instruction with an error (`code`) waits for no tokens, the others for those from `units` (a mask), which it asks
    for where it is `allowed`, even without `room`. Returns: it starts now.
    """
    instruction, tokens = unit.instruction, unit.tokens
    wanted, start = Signal(), Signal()
    m.d.comb += [
        wanted.eq(instruction.valid & allowed),
        tokens.index.eq(instruction.p.index),
        job.valid.eq(wanted & tokens.ready & room),
        start.eq(job.valid & job.ready),
        tokens.take.eq(start),
        instruction.ready.eq(start),
    ]
    with m.If(wanted & (code == ErrorCode.NONE)):
        m.d.comb += tokens.need.eq(header(instruction.p.word).wait & units)
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
