"""Which instruction it is: what the decoders of the DMA units share."""

from amaranth.hdl import Module, Signal

from systolith import isa
from systolith.hw.interfaces import ErrorCode, header

__all__ = ["connect_start", "is_form"]


def is_form(form: isa.Format, word):
    """Whether the 128 bits are an instruction of this format (of the unit they were sent to)."""
    fields = header(word)
    matches = fields.opcode == form.opcode
    return matches if form.group is None else matches & (fields.group == form.group)


def connect_start(m: Module, unit, job, allowed) -> Signal:
    """Start the instruction at the head of the queue as `job`, in a cycle with `allowed`, its tokens, and room.

    An instruction with an error waits for no tokens. Returns: it starts now.
    """
    instruction, tokens = unit.instruction, unit.tokens
    start = Signal()
    with m.If(instruction.valid & allowed & (job.p.code == ErrorCode.NONE)):
        m.d.comb += tokens.need.eq(header(instruction.p.word).wait)
    m.d.comb += [
        tokens.index.eq(instruction.p.index),
        job.valid.eq(instruction.valid & allowed & tokens.ready),
        start.eq(job.valid & job.ready),
        tokens.take.eq(start),
        instruction.ready.eq(start),
    ]
    return start
